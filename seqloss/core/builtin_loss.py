"""The built-in losses as rules: the kernel and the reduction as one function of arrays, forward and backward.

``plain`` leaves differentiation to the framework. ``forward`` and ``pullback`` compute the same without it: they serve
``sequence_loss_and_grad``, backends in which one operation is cheaper than a graph of twenty, and the exact mode, in
which float64 must not be seen from outside.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from seqloss.core import dtypes, hosted, reduction
from seqloss.core.arguments import Sequence
from seqloss.core.protocol import SMALLEST_ACTIVE, Array, Backend, Rule, TokenStatistics


def sequence_loss(call: Sequence, plan: reduction.Plan, exact: bool) -> Array:
    """The loss of a checked call, which the framework can differentiate."""
    backend, arrays = call.backend, arrays_of(call)
    given = rule(call, plan, exact, not call.fixed)
    return backend.in_float64(given, arrays) if exact else backend.fuse(given, arrays)


def rule(call: Sequence, plan: reduction.Plan, exact: bool, wrt_weights: bool) -> Rule:
    """The loss of a checked call as a function of :func:`arrays_of` it."""
    return hosted.hosted(BuiltinLoss(call.backend, plan, call.dtype, call.fixed, wrt_weights, exact), arrays_of(call))


def token_losses(backend: Backend, logits: Array, targets: Array, active: Array | None, exact: bool = False) -> Array:
    """The loss of each token, which the framework can differentiate."""
    arrays = logits, targets, active
    given = hosted.hosted(TokenLoss(backend, exact), arrays)
    return backend.in_float64(given, arrays) if exact else backend.fuse(given, arrays)


def weighted_token_losses(backend: Backend, logits: Array, targets: Array, active: Array | None, fixed: bool) -> Array:
    """The countable loss of each token, which the framework can differentiate; ``fixed`` as in ``BuiltinLoss``."""
    if fixed or active is None:
        return token_losses(backend, logits, targets, active)
    targets, free = _excused(backend, logits, targets, active)
    return _countable(backend, token_losses(backend, logits, targets, None), active, free)


def _excused(backend: Backend, logits: Array, targets: Array, active: Array) -> tuple[Array, Array]:
    """Labels with a class in place of those that need not be one, and where these are.

    The kernel would make NaN of them, which must be taken out again; and people look for NaN in their programs.
    """
    index, legal = backend.indices(logits, targets)
    return backend.where(legal | ~active, index, -1), ~(legal | active)


def _countable(backend: Backend, nll: Array, active: Array, free: Array) -> Array:
    return backend.where(free, 0.0, reduction.countable(backend, nll, active))


def arrays_of(call: Sequence) -> tuple[Any, ...]:
    """The arguments of a :class:`BuiltinLoss`."""
    return call.logits, call.targets, call.weights


class BuiltinLoss(NamedTuple):
    """The loss as a function of ``arrays_of(call)``. It holds no array, so that it keeps none alive."""

    backend: Backend
    plan: reduction.Plan
    dtype: str
    """That of the loss, to which weights are cast."""
    fixed: bool
    """Whether nobody asks for the gradient of the weights, so that the kernel may skip inactive tokens."""
    wrt_weights: bool
    """Whether the pullback computes that gradient."""
    exact: bool
    """Whether all is computed in float64 and rounded once."""

    @property
    def is_hosted(self) -> bool:
        return False

    def on(self, backend: Backend) -> "BuiltinLoss":
        return BuiltinLoss(backend, self.plan, self.dtype, self.fixed, self.wrt_weights, self.exact)

    def plain(self, logits: Array, targets: Array, weights: Array | None) -> Array:
        prepared = reduction.prepare_any(self.backend, weights, targets, self.dtype, self.fixed)
        labels, skipped, free = self._known(logits, targets, prepared.active)
        nll = self.backend.differentiable_token_nll(logits, labels, skipped)
        losses = nll if free is None else _countable(self.backend, nll, prepared.active, free)
        return reduction.forward(self.backend, self.plan, losses, prepared).loss

    def forward(self, logits: Array, targets: Array, weights: Array | None) -> tuple[Array, tuple[Any, ...]]:
        """The loss, and what its pullback needs beside the arguments: numbers per token."""
        backend = self.backend
        with _region(backend, self.exact):
            dtype = "float64" if self.exact else self.dtype
            prepared = reduction.prepare_any(backend, weights, targets, self.dtype, self.fixed)
            prepared = reduction.Weights(backend.astype(prepared.values, dtype), prepared.active)
            labels, skipped, free = self._known(logits, targets, prepared.active)
            statistics = backend.token_nll(logits, labels, skipped, dtype)
            nll = statistics.nll
            losses = nll if free is None else _countable(backend, nll, prepared.active, free)
            reduced = reduction.forward(backend, self.plan, losses, prepared)
            loss = _rounded(backend, reduced.loss) if self.exact else reduced.loss
        return loss, (*statistics, losses, *prepared, *reduced)

    def pullback(
        self, arrays: tuple[Any, ...], residuals: tuple[Any, ...], cotangent: Array
    ) -> tuple[Array, None, Array | None]:
        """The gradients of the logits and of the weights, in their dtypes."""
        backend = self.backend
        logits, targets, weights = arrays
        nll, shift, total, losses, values, active, loss, safe, empty = residuals
        with _region(backend, self.exact):
            prepared, reduced = reduction.Weights(values, active), reduction.Reduced(loss, safe, empty)
            cotangent = backend.astype(cotangent, backend.dtype(nll))
            to_nll, to_weights = reduction.pullback(
                backend, self.plan, losses, prepared, reduced, cotangent, self.wrt_weights
            )
            statistics = TokenStatistics(nll, shift, total)
            labels, skipped, _ = self._known(logits, targets, active)
            to_logits = backend.token_nll_pullback(to_nll, logits, labels, skipped, statistics)
            if to_weights is not None:
                to_weights = _rounded(backend, to_weights) if self.exact else to_weights
                to_weights = backend.astype(to_weights, backend.dtype(weights))
        return to_logits, None, to_weights

    def _known(self, logits: Array, targets: Array, active: Array | None) -> tuple[Array, Array | None, Array | None]:
        """The labels for the kernel, what it may leave out, and where a label need not be a class.

        A kernel that leaves out puts 0 where a token does not count. Otherwise that is done behind it.
        """
        if self.fixed or active is None:
            return targets, active, None
        labels, free = _excused(self.backend, logits, targets, active)
        return labels, None, free


class TokenLoss(NamedTuple):
    """The loss of each token as a function of logits, targets and active."""

    backend: Backend
    exact: bool

    @property
    def is_hosted(self) -> bool:
        return False

    def on(self, backend: Backend) -> "TokenLoss":
        return TokenLoss(backend, self.exact)

    def plain(self, logits: Array, targets: Array, active: Array | None) -> Array:
        return self.backend.differentiable_token_nll(logits, targets, active)

    def forward(self, logits: Array, targets: Array, active: Array | None) -> tuple[Array, tuple[Any, ...]]:
        backend = self.backend
        with _region(backend, self.exact):
            dtype = "float64" if self.exact else dtypes.compute_dtype(backend.dtype(logits))
            statistics = backend.token_nll(logits, targets, active, dtype)
            nll = _rounded(backend, statistics.nll) if self.exact else statistics.nll
        return nll, tuple(statistics)

    def pullback(
        self, arrays: tuple[Any, ...], residuals: tuple[Any, ...], cotangent: Array
    ) -> tuple[Array, None, None]:
        logits, targets, active = arrays
        backend, statistics = self.backend, TokenStatistics(*residuals)
        with _region(backend, self.exact):
            cotangent = backend.astype(cotangent, backend.dtype(statistics.nll))
            gradient = backend.token_nll_pullback(cotangent, logits, targets, active, statistics)
        return gradient, None, None


def _region(backend: Backend, exact: bool) -> AbstractContextManager[Any]:
    return backend.float64() if exact else nullcontext()


def _rounded(backend: Backend, x: Array) -> Array:
    """float64 as float32, rounded once. Subnormal numbers are 0, because some executors flush them and some do not."""
    return backend.astype(backend.where(abs(x) < SMALLEST_ACTIVE, 0.0, x), "float32")
