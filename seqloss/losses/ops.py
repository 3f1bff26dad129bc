"""The built-in losses as operations: a kernel and a reduction as one function of arrays, forward and backward.

``composed`` leaves differentiation to the framework. ``forward`` and ``pullback`` compute the same without it: they
serve ``sequence_loss_and_grad``, backends in which one operation is cheaper than a graph of twenty, and the exact mode,
whose float64 must not be seen from outside.
"""

from typing import Any, NamedTuple

from seqloss.core import dtypes
from seqloss.core.contract import Spec, Statistics
from seqloss.core.protocol import SMALLEST_ACTIVE, Array, Arrays, Backend, LossOp
from seqloss.losses import reduction
from seqloss.losses.arguments import SequenceArguments
from seqloss.losses.kernels import LabelKernel, SigmoidKernel, TokenKernel


def sequence_loss(call: SequenceArguments, plan: reduction.Plan, exact: bool) -> Array:
    """The loss of checked arguments, which the framework can differentiate."""
    op = sequence_loss_op(call, plan, exact, not call.constant_weights)
    return call.backend.run(op, call.arrays)[0]


def sequence_loss_op(call: SequenceArguments, plan: reduction.Plan, exact: bool, wrt_weights: bool) -> LossOp:
    """The loss of checked arguments as a function of ``call.arrays``."""
    kernel = TokenKernel(call.backend, Spec("float64" if exact else call.dtype))
    return SequenceLossOp(kernel, plan, call.dtype, call.constant_weights, wrt_weights, exact)


def token_losses(backend: Backend, logits: Array, targets: Array, active: Array | None, exact: bool = False) -> Array:
    """The loss of each token, which the framework can differentiate."""
    if exact:
        return backend.run(ExactTokenLossOp(TokenKernel(backend, Spec("float64"))), (logits, targets, active))[0]
    kernel = TokenKernel(backend, Spec(dtypes.compute_dtype(backend.dtype(logits))))
    return backend.run(kernel, (logits, targets, active, None))[0]


def weighted_token_losses(
    backend: Backend, logits: Array, targets: Array, active: Array | None, constant_weights: bool
) -> Array:
    """The loss of each token, 0 for what weight 0 must remove, which the framework can differentiate."""
    if constant_weights or active is None:
        return token_losses(backend, logits, targets, active)
    targets, free = _excused(backend, logits, targets, active)
    return _without_excused(backend, token_losses(backend, logits, targets, None), active, free)


def label_losses(
    backend: Backend, logits: Array, labels: Array, mass: Array, active: Array | None, wrt_labels: bool
) -> Array:
    """The loss of each token against soft labels, which the framework can differentiate."""
    kernel = LabelKernel(backend, Spec(backend.dtype(labels)), wrt_labels)
    return backend.run(kernel, (logits, labels, mass, active, None))[0]


def sigmoid_losses(backend: Backend, logits: Array, labels: Array, pos_weight: Array | None, wrt_labels: bool) -> Array:
    """The loss of each of independent classes, which the framework can differentiate."""
    return backend.run(SigmoidKernel(backend, wrt_labels), (logits, labels, pos_weight))[0]


def _excused(backend: Backend, logits: Array, targets: Array, active: Array) -> tuple[Array, Array]:
    """Labels with a class in place of those that need not be one, and where these are.

    The kernel would make NaN of them, which must be taken out again; and people look for NaN in their programs.
    """
    index, legal = backend.indices(logits, targets)
    return backend.where(legal | ~active, index, -1), ~(legal | active)


def _without_excused(backend: Backend, nll: Array, active: Array, free: Array) -> Array:
    return backend.where(free, 0.0, reduction.without_masked_nan(backend, nll, active))


class SequenceResiduals(NamedTuple):
    """What the pullback of a sequence loss needs beside the arguments: numbers per token."""

    statistics: Statistics
    losses: Array
    weights: reduction.Weights
    reduced: reduction.Reduced


class SequenceLossOp(NamedTuple):
    """The loss of logits, targets and weights: a token loss and a reduction."""

    kernel: TokenKernel
    plan: reduction.Plan
    dtype: str
    """That of the loss, to which weights are cast."""
    constant_weights: bool
    """Whether nobody asks for the gradient of the weights, so that the kernel may skip inactive tokens."""
    wrt_weights: bool
    """Whether the pullback computes that gradient."""
    exact: bool
    """Whether all is computed in float64 and rounded once."""

    @property
    def backend(self) -> Backend:
        return self.kernel.backend

    @property
    def opaque(self) -> bool:
        return self.exact

    def on(self, backend: Backend) -> "SequenceLossOp":
        options = self.plan, self.dtype, self.constant_weights, self.wrt_weights, self.exact
        return SequenceLossOp(self.kernel.on(backend), *options)

    def composed(self, logits: Array, targets: Array, weights: Array | None) -> tuple[Array]:
        token_weights = reduction.token_weights(self.backend, weights, self.dtype, self.constant_weights)
        labels, skipped, free = self._labels(logits, targets, token_weights.active)
        (nll,) = self.kernel.composed(logits, labels, skipped, None)
        losses = nll if free is None else _without_excused(self.backend, nll, token_weights.active, free)
        return (reduction.forward(self.backend, self.plan, losses, token_weights).loss,)

    def forward(self, logits: Array, targets: Array, weights: Array | None) -> tuple[tuple[Array], SequenceResiduals]:
        backend = self.backend
        token_weights = reduction.token_weights(backend, weights, self.dtype, self.constant_weights)
        if self.exact and token_weights.values is not None:
            wide = backend.astype(token_weights.values, self.kernel.spec.dtype)
            token_weights = reduction.Weights(wide, token_weights.active)
        labels, skipped, free = self._labels(logits, targets, token_weights.active)
        (nll,), statistics = self.kernel.forward(logits, labels, skipped, None)
        losses = nll if free is None else _without_excused(backend, nll, token_weights.active, free)
        reduced = reduction.forward(backend, self.plan, losses, token_weights)
        loss = _rounded(backend, reduced.loss) if self.exact else reduced.loss
        return (loss,), SequenceResiduals(statistics, losses, token_weights, reduced)

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array, None, Array | None]:
        """The gradients of the logits and of the weights, in their dtypes."""
        backend = self.backend
        logits, targets, weights = arrays
        statistics, losses, token_weights, reduced = residuals
        token_weights, reduced = reduction.Weights(*token_weights), reduction.Reduced(*reduced)
        cotangent = backend.astype(cotangents[0], self.kernel.spec.dtype)
        to_nll, to_weights = reduction.pullback(
            backend, self.plan, losses, token_weights, reduced, cotangent, self.wrt_weights
        )
        labels, skipped, _ = self._labels(logits, targets, token_weights.active)
        to_logits, *_ = self.kernel.pullback((logits, labels, skipped, None), statistics, (to_nll,))
        if to_weights is not None:
            to_weights = _rounded(backend, to_weights) if self.exact else to_weights
            to_weights = backend.astype(to_weights, backend.dtype(weights))
        return to_logits, None, to_weights

    def _labels(self, logits: Array, targets: Array, active: Array | None) -> tuple[Array, Array | None, Array | None]:
        """The labels for the kernel, what it may leave out, and where a label need not be a class.

        A kernel that leaves out puts 0 where a token does not count. Otherwise that is done behind it.
        """
        if self.constant_weights or active is None:
            return targets, active, None
        labels, free = _excused(self.backend, logits, targets, active)
        return labels, None, free


class ExactTokenLossOp(NamedTuple):
    """The loss of each token in float64, rounded once, of logits, targets and active."""

    kernel: TokenKernel

    @property
    def backend(self) -> Backend:
        return self.kernel.backend

    @property
    def opaque(self) -> bool:
        return True

    def on(self, backend: Backend) -> "ExactTokenLossOp":
        return ExactTokenLossOp(self.kernel.on(backend))

    def composed(self, logits: Array, targets: Array, active: Array | None) -> tuple[Array, ...]:
        return self.backend.differentiable(self, (logits, targets, active))

    def forward(self, logits: Array, targets: Array, active: Array | None) -> tuple[tuple[Array], Statistics]:
        (nll,), statistics = self.kernel.forward(logits, targets, active, None)
        return (_rounded(self.backend, nll),), statistics

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array, None, None]:
        to_nll = self.backend.astype(cotangents[0], self.kernel.spec.dtype)
        to_logits, *_ = self.kernel.pullback((*arrays, None), residuals, (to_nll,))
        return to_logits, None, None


def _rounded(backend: Backend, x: Array) -> Array:
    """float64 as float32, rounded once. Subnormal numbers are 0, because some executors flush them and some do not."""
    return backend.astype(backend.where(abs(x) < SMALLEST_ACTIVE, 0.0, x), "float32")
