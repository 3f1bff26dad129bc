"""The built-in losses as operations: a kernel and a reduction as one function of arrays, forward and backward.

``composed`` leaves differentiation to the framework. ``forward`` and ``pullback`` compute the same without it: they
serve ``sequence_loss_and_grad``, backends in which one operation is cheaper than a graph of twenty, and the exact mode,
whose float64 must not be seen from outside.
"""

from typing import Any, NamedTuple

from seqloss.core import dtypes
from seqloss.core.contract import Spec
from seqloss.core.protocol import SMALLEST_ACTIVE, Array, Arrays, Backend, LossOp
from seqloss.losses import reduction
from seqloss.losses.arguments import SequenceArguments, TokenArguments
from seqloss.losses.kernels import LabelKernel, SigmoidKernel, TokenKernel
from seqloss.losses.objective import (
    PLAIN,
    Given,
    Objective,
    TokenLoss,
    numbers_of_classes,
    of_labels,
    without_classes,
)


def sequence_loss(call: SequenceArguments, plan: reduction.Plan, objective: Objective, exact: bool) -> Array:
    """The loss of checked arguments, which the framework can differentiate."""
    op = sequence_loss_op(call, plan, objective, exact, not call.constant_weights)
    return call.backend.run(op, call.arrays)[0]


def sequence_loss_op(
    call: SequenceArguments, plan: reduction.Plan, objective: Objective, exact: bool, wrt_weights: bool
) -> LossOp:
    """The loss of checked arguments as a function of ``call.arrays``."""
    kernel = TokenKernel(call.backend, objective.spec("float64" if exact else call.dtype))
    tokens = TokenLoss(kernel, objective)
    return SequenceLossOp(tokens, plan, call.exclude, call.dtype, call.constant_weights, wrt_weights, exact)


def token_objective(call: TokenArguments, objective: Objective, exact: bool) -> Array:
    """The loss of each token of checked arguments, which the framework can differentiate."""
    backend, is_plain = call.backend, objective == PLAIN and call.class_weights is None
    if is_plain and not exact:
        return token_losses(backend, call.logits, call.targets, call.active)
    dtype = dtypes.compute_dtype(backend.dtype(call.logits))
    kernel = TokenKernel(backend, objective.spec("float64" if exact else dtype))
    op = TokenLossOp(TokenLoss(kernel, objective), call.exclude, dtype, exact)
    return backend.run(op, (call.logits, call.targets, call.active, call.class_weights, call.prior))[0]


def token_losses(backend: Backend, logits: Array, targets: Array, active: Array | None) -> Array:
    """The cross entropy of each token, which the framework can differentiate."""
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

    tokens: Any
    given: Given
    """The arrays of the token loss that are not among the arguments."""
    losses: Array
    weights: reduction.Weights
    reduced: reduction.Reduced


class SequenceLossOp(NamedTuple):
    """The loss of logits, targets and what :class:`SequenceArguments` has beside: a token loss and a reduction."""

    tokens: TokenLoss
    plan: reduction.Plan
    exclude: tuple[int, ...]
    """Classes that no label is smoothed with."""
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
        return self.tokens.backend

    @property
    def opaque(self) -> bool:
        return self.exact

    def on(self, backend: Backend) -> "SequenceLossOp":
        options = self.plan, self.exclude, self.dtype, self.constant_weights, self.wrt_weights, self.exact
        return SequenceLossOp(self.tokens.on(backend), *options)

    def composed(self, *arrays: Array | None) -> tuple[Array]:
        counted = self._counted(*arrays)
        losses = self._without_excused(self.tokens.composed(counted.tokens), counted)
        return (reduction.forward(self.backend, self.plan, losses, counted.weights, counted.normalizer).loss,)

    def forward(self, *arrays: Array | None) -> tuple[tuple[Array], SequenceResiduals]:
        backend, counted = self.backend, self._counted(*arrays)
        losses, tokens = self.tokens.forward(counted.tokens)
        losses = self._without_excused(losses, counted)
        reduced = reduction.forward(backend, self.plan, losses, counted.weights, counted.normalizer)
        loss = _rounded(backend, reduced.loss) if self.exact else reduced.loss
        # Without what the arrays have: the labels too, unless others were put in their place.
        labels = None if counted.free is None else counted.tokens.targets
        given = Given(None, labels, *counted.tokens[2:])
        return (loss,), SequenceResiduals(tokens, given, losses, counted.weights, reduced)

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        """The gradients of the logits and of the weights, in their dtypes."""
        backend = self.backend
        tokens, given, losses, weights, reduced = residuals
        cotangent = backend.astype(cotangents[0], self.tokens.kernel.spec.dtype)
        to_losses, to_weights = reduction.pullback(
            backend,
            self.plan,
            losses,
            reduction.Weights(*weights),
            reduction.Reduced.of(reduced),
            cotangent,
            self.wrt_weights,
            arrays[6] is not None,
        )
        labels = arrays[1] if given[1] is None else given[1]
        to_logits = self.tokens.pullback(Given(arrays[0], labels, *given[2:]), tokens, to_losses)
        if to_weights is not None:
            # What the kernel may leave out although the weights have a gradient: all that is out.
            to_weights = reduction.without_removed(backend, to_weights, given[2])
            to_weights = _rounded(backend, to_weights) if self.exact else to_weights
            to_weights = backend.astype(to_weights, backend.dtype(arrays[2]))
        return to_logits, None, to_weights, *(None,) * (len(arrays) - 3)

    def _counted(
        self,
        logits: Array,
        targets: Array,
        weights: Array | None,
        kept: Array | None = None,
        class_weights: Array | None = None,
        prior: Array | None = None,
        normalizer: Array | None = None,
    ) -> "_Counted":
        """The arrays of the token loss and of the reduction, from those of the call."""
        backend, wide = self.backend, self.tokens.kernel.spec.dtype
        class_weights, prior = _of_classes(self, logits, class_weights, prior)
        units = None
        if class_weights is not None:
            units = of_labels(backend, class_weights, logits, targets)
            if self.tokens.objective.eps == 0:
                has_weight = ~backend.equal(units, 0.0)
                kept = has_weight if kept is None else kept & has_weight
        values, active, _ = reduction.token_weights(backend, weights, self.dtype, self.constant_weights, kept)
        if self.exact and values is not None:
            values = backend.astype(values, wide)
        normalizer = reduction.normalizer(backend, normalizer, wide)
        # A kernel that leaves out puts 0 where a token does not count. Otherwise that is done behind it.
        free, skipped = None, active
        if not self.constant_weights and active is not None:
            skipped = kept
            targets, free = _excused(backend, logits, targets, active)
        tokens = Given(logits, targets, skipped, class_weights, prior, units)
        return _Counted(tokens, reduction.Weights(values, active, units), normalizer, free)

    def _without_excused(self, losses: Array, counted: "_Counted") -> Array:
        if counted.free is None:
            return losses
        return _without_excused(self.backend, losses, counted.weights.active, counted.free)


class _Counted(NamedTuple):
    """What a sequence loss makes of its arrays."""

    tokens: Given
    weights: reduction.Weights
    normalizer: Array | None
    free: Array | None
    """Where a label need not be a class; None if the kernel leaves these out."""


class TokenLossOp(NamedTuple):
    """The loss of each token of logits, targets, active, class weights and prior."""

    tokens: TokenLoss
    exclude: tuple[int, ...]
    dtype: str
    """That of the losses."""
    exact: bool

    @property
    def backend(self) -> Backend:
        return self.tokens.backend

    @property
    def opaque(self) -> bool:
        return self.exact

    def on(self, backend: Backend) -> "TokenLossOp":
        return TokenLossOp(self.tokens.on(backend), self.exclude, self.dtype, self.exact)

    def composed(self, *arrays: Array | None) -> tuple[Array, ...]:
        return (self.tokens.composed(self._given(*arrays)),)

    def forward(self, *arrays: Array | None) -> tuple[tuple[Array], Any]:
        losses, residuals = self.tokens.forward(self._given(*arrays))
        return (_rounded(self.backend, losses) if self.exact else losses,), residuals

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        to_losses = self.backend.astype(cotangents[0], self.tokens.kernel.spec.dtype)
        to_logits = self.tokens.pullback(self._given(*arrays), residuals, to_losses)
        return to_logits, *(None for _ in arrays[1:])

    def _given(
        self,
        logits: Array,
        targets: Array,
        active: Array | None,
        class_weights: Array | None,
        prior: Array | None,
    ) -> Given:
        class_weights, prior = _of_classes(self, logits, class_weights, prior)
        units = None
        if class_weights is not None:
            units = of_labels(self.backend, class_weights, logits, targets)
        return Given(logits, targets, active, class_weights, prior, units)


def _of_classes(
    op: SequenceLossOp | TokenLossOp, logits: Array, class_weights: Array | None, prior: Array | None
) -> tuple[Array | None, Array | None]:
    """Class weights and prior, without excluded classes, in the dtype of the kernel."""
    if class_weights is None and prior is None and not op.exclude:
        return None, None
    backend, wide = op.backend, op.tokens.kernel.spec.dtype
    class_weights, prior = (
        None if x is None else numbers_of_classes(backend, x, op.dtype, wide) for x in (class_weights, prior)
    )
    return class_weights, without_classes(backend, prior, logits, op.exclude, wide)


def _rounded(backend: Backend, x: Array) -> Array:
    """float64 as float32, rounded once. Subnormal numbers are 0, because some executors flush them and some do not."""
    return backend.astype(backend.where(abs(x) < SMALLEST_ACTIVE, 0.0, x), "float32")
