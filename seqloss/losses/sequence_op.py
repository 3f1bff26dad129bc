"""The loss of a batch of sequences as an operation: the losses of tokens, and their reduction."""

from typing import Any, NamedTuple

from seqloss.core.protocol import Array, Arrays, Backend
from seqloss.losses import classes, counting, packing, reduction
from seqloss.losses.kernels import rounded
from seqloss.losses.objective import Given, TokenLoss


class Wanted(NamedTuple):
    """The arguments, other than the logits, whose gradients the pullback computes."""

    weights: bool
    targets: bool


class SequenceResiduals(NamedTuple):
    """What the pullback of a sequence loss needs besides the arguments: numbers per token."""

    tokens: Any
    given: Given
    """The arrays of the token loss that are not among the arguments."""
    losses: Array
    weights: counting.Weights
    reduced: reduction.Reduced


class SequenceLossOp(NamedTuple):
    """The loss of logits, targets and the other arrays of :class:`SequenceArguments`: a token loss and a reduction."""

    tokens: TokenLoss
    plan: reduction.Plan
    exclude: tuple[int, ...]
    """Classes that no label is smoothed with."""
    dtype: str
    """That of the loss, to which weights are cast."""
    constant_weights: bool
    """Whether nobody asks for the gradient of the weights, so that the kernel may skip inactive tokens."""
    wanted: Wanted
    exact: bool
    """Whether all is computed in float64 and rounded once."""

    @property
    def backend(self) -> Backend:
        return self.tokens.kernel.backend

    @property
    def opaque(self) -> bool:
        return self.exact

    def on(self, backend: Backend) -> "SequenceLossOp":
        options = self.plan, self.exclude, self.dtype, self.constant_weights, self.wanted, self.exact
        return SequenceLossOp(self.tokens.on(backend), *options)

    @property
    def is_foreseen(self) -> bool:
        """Whether the cotangents of token losses are known before the losses, and a kernel can use them.

        The NumPy kernel of class ids can, if the loss is a single number.
        """
        can_ask = hasattr(self.backend, "token_statistics_and_pullback")
        return can_ask and self.plan.is_scalar and not self.tokens.is_soft

    def composed(self, *arrays: Array | None) -> tuple[Array]:
        counted = self.counted(*arrays)
        losses = self.without_excused(self.tokens.composed(counted.tokens), counted)
        return (self.reduced(losses, counted).loss,)

    def forward(self, *arrays: Array | None) -> tuple[tuple[Array], SequenceResiduals]:
        counted = self.counted(*arrays)
        losses, tokens = self.tokens.forward(counted.tokens)
        losses = self.without_excused(losses, counted)
        reduced = self.reduced(losses, counted)
        loss = self.rounded(reduced.loss)
        # Without what is in the arrays already. The labels are, unless they were replaced. Soft labels are as large as
        # the logits, and are computed again.
        labels = None if counted.free is None or self.tokens.is_soft else counted.tokens.targets
        given = Given(None, labels, *counted.tokens[2:])
        return (loss,), SequenceResiduals(tokens, given, losses, counted.weights, reduced)

    def at_once(self, arrays: Arrays, cotangent: Array | None) -> tuple[tuple[Array], tuple[Array | None, ...]]:
        """The outputs of :meth:`forward`, and what :meth:`pullback` makes of a cotangent (None: 1), on NumPy alone.

        The same bits, but the logits are read once. The operation must be one that ``is_foreseen``.
        """
        backend, counted = self.backend, self.counted(*arrays)
        cotangent = backend.asarray(1.0) if cotangent is None else cotangent
        to_losses, known = self.foreseen(counted, arrays[1], cotangent)
        losses, to_logits = self.tokens.at_once(counted.tokens, to_losses)
        loss, to_weights = self.finished(losses, counted, known, cotangent)
        to_weights = self._in_dtype_of(arrays[2], to_weights)
        return (loss,), (to_logits, None, to_weights, *(None,) * (len(arrays) - 3))

    def foreseen(
        self, counted: "Counted", targets: Array, cotangent: Array
    ) -> tuple[Array, reduction.Denominator | None]:
        """The cotangents of token losses, which are known before these, and what they are divided by, if it is one.

        ``targets`` are any array of the shape of the losses. The loss is to be one number.
        """
        backend, weights, normalizer = self.backend, counted.weights, counted.normalizer
        cotangent = backend.astype(cotangent, self.tokens.kernel.spec.dtype)
        like = weights.values
        if like is None:
            like = backend.ones_like(targets, dtype=self.tokens.kernel.spec.dtype)
        known = None
        if self.plan.of_sequences:
            reduced = self.reduced(like, counted)
        else:
            known = reduction.denominator(backend, self.plan, like, weights, normalizer)
            reduced = reduction.Reduced(None, known.divisor, known.empty)
        return self.pulled(like, counted, reduced, cotangent, False, normalizer is not None).losses, known

    def finished(
        self,
        losses: Array,
        counted: "Counted",
        known: reduction.Denominator | None,
        cotangent: Array,
    ) -> tuple[Array, Array | None]:
        """The loss, of token losses whose cotangents were foreseen, and :meth:`to_weights` if that is wanted."""
        losses = self.without_excused(losses, counted)
        reduced, to_weights = self.reduced(losses, counted, known), None
        if self.wanted.weights:
            cotangent = self.backend.astype(cotangent, self.tokens.kernel.spec.dtype)
            pulled = self.pulled(losses, counted, reduced, cotangent, True, counted.normalizer is not None)
            to_weights = self.to_weights(pulled.weights, counted.tokens.active)
        return self.rounded(reduced.loss), to_weights

    def rounded(self, x: Array) -> Array:
        """A result of the kernel's dtype as it is returned."""
        return rounded(self.backend, x) if self.exact else x

    def weighted(self, *arrays: Array | None) -> tuple[Array, counting.Weights]:
        """The terms of the sum, in the dtype of the kernel, and their weights."""
        counted = self.counted(*arrays)
        losses, _ = self.tokens.forward(counted.tokens)
        losses = self.without_excused(losses, counted)
        return reduction.forward(self.backend, reduction.of_name("none"), losses, counted.weights).loss, counted.weights

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        """The gradients of the logits, of soft targets and of the weights, in their dtypes."""
        backend = self.backend
        tokens, given, losses, weights, reduced = residuals
        weights, cotangent = counting.Weights(*weights), backend.astype(cotangents[0], self.tokens.kernel.spec.dtype)
        given = Given(*given)
        labels = arrays[1] if given.targets is None else given.targets
        if self.tokens.is_soft and given.class_weights is not None:
            labels = classes.times(backend, labels, given.class_weights)
        given = Given(arrays[0], labels, *given[2:])
        members = None if arrays[7] is None else packing.members(backend, self.plan, arrays[7], arrays[0])
        counted = Counted(given, weights, None, None, members)
        reduced, has_normalizer = reduction.Reduced.of(reduced), arrays[6] is not None
        pulled = self.pulled(losses, counted, reduced, cotangent, self.wanted.weights, has_normalizer)
        of_tokens = self.tokens.pullback(given, tokens, pulled.losses)
        to_weights, to_targets = self.to_weights(pulled.weights, given.active), of_tokens.labels
        to_weights = self._in_dtype_of(arrays[2], to_weights)
        if to_targets is not None and given.class_weights is not None:
            to_targets = self._through_class_weights(given, weights.active, to_targets, pulled.units, of_tokens.units)
            to_targets = self._in_dtype_of(arrays[1], to_targets)
        return of_tokens.logits, to_targets, to_weights, *(None,) * (len(arrays) - 3)

    def pulled(
        self,
        losses: Array,
        counted: "Counted",
        reduced: reduction.Reduced,
        cotangent: Array,
        wrt_weights: bool,
        has_normalizer: bool,
    ) -> reduction.Pulled:
        weights, wrt_units = counted.weights, self.wanted.targets and counted.weights.units is not None
        options = wrt_weights, has_normalizer, wrt_units, counted.members
        return reduction.pullback(self.backend, self.plan, losses, weights, reduced, cotangent, *options)

    def to_weights(self, pulled: Array | None, active: Array | None) -> Array | None:
        """The gradient of the weights, in the dtype of the kernel."""
        # The tokens that the kernel may leave out although the weights have a gradient: those that are ignored.
        return None if pulled is None else counting.without_removed(self.backend, pulled, active)

    def _through_class_weights(
        self, given: Given, active: Array | None, to_labels: Array, *to_units: Array | None
    ) -> Array:
        """The gradient of soft labels from that of their products with the class weights, and of the sums of these."""
        backend = self.backend
        for x in to_units:
            if x is not None:
                to_labels = to_labels + backend.expand_dims(x, axis=-1)
        to_targets = classes.times(backend, to_labels, given.class_weights)
        # Selected, because a class weight may be NaN.
        return to_targets if active is None else backend.where(backend.expand_dims(active, axis=-1), to_targets, 0.0)

    def _in_dtype_of(self, x: Array, gradient: Any) -> Any:
        if gradient is None:
            return None
        return self.backend.astype(self.rounded(gradient), self.backend.dtype(x))

    def counted(
        self,
        logits: Array,
        targets: Array,
        weights: Array | None,
        kept: Array | None = None,
        class_weights: Array | None = None,
        prior: Array | None = None,
        normalizer: Array | None = None,
        offsets: Array | None = None,
        *,
        of_tokens: Array | None = None,
    ) -> "Counted":
        """The arrays of the token loss and of the reduction, from those of the call.

        Of logits nothing matters here but their classes, if ``of_tokens`` [batch, time, ...] is there.
        """
        backend, wide = self.backend, self.tokens.kernel.spec.dtype
        if class_weights is not None or prior is not None or len(self.exclude) > 0:
            class_weights, prior = classes.weights_and_prior(
                backend, logits, class_weights, prior, self.exclude, self.dtype, wide
            )
        units = mass = is_known = None
        if self.tokens.is_soft:
            is_known = ~(backend.min(backend.stop_gradient(targets), axis=(-1,)) < 0)
            targets = targets if class_weights is None else classes.times(backend, targets, class_weights)
            mass = backend.sum(targets, axis=(-1,), dtype=wide)
            is_known = is_known & backend.isfinite(backend.stop_gradient(mass))
            mass = backend.nan_unless(is_known, mass)
        if class_weights is not None:
            if mass is None:
                units = classes.of_labels(backend, class_weights, logits, targets)
            else:  # 1 where there is none, as for a label that is no class
                units = backend.where(is_known, mass, 1.0)
            if self.tokens.objective.eps == 0:
                has_weight = ~backend.equal(units, 0.0)
                kept = has_weight if kept is None else kept & has_weight
        values, active, _ = counting.token_weights(backend, weights, self.dtype, self.constant_weights, kept)
        if self.exact and values is not None:
            values = backend.astype(values, wide)
        if normalizer is not None:
            normalizer = reduction.normalizer(backend, normalizer, wide)
        # A kernel that leaves tokens out puts 0 in their place. Otherwise that is done after the kernel.
        free, skipped = None, active
        if not self.constant_weights and active is not None:
            skipped = kept
            if is_known is None:
                targets, free = excused(backend, logits, targets, active)
            else:
                free = ~(is_known | active)
        tokens = Given(logits, targets, skipped, class_weights, prior, units, mass)
        members = None
        if offsets is not None:
            members = packing.members(backend, self.plan, offsets, logits if of_tokens is None else of_tokens)
        return Counted(tokens, counting.Weights(values, active, units), normalizer, free, members)

    def reduced(
        self, losses: Array, counted: "Counted", known: reduction.Denominator | None = None
    ) -> reduction.Reduced:
        given = losses, counted.weights, counted.normalizer, counted.members
        return reduction.forward(self.backend, self.plan, *given, known)

    def without_excused(self, losses: Array, counted: "Counted") -> Array:
        if counted.free is None:
            return losses
        return without_excused(self.backend, losses, counted.weights.active, counted.free)


class Counted(NamedTuple):
    """What a sequence loss makes of its arrays."""

    tokens: Given
    weights: counting.Weights
    normalizer: Array | None
    free: Array | None
    """Where a label need not be a class; None if the kernel leaves these out."""
    members: Array | None
    """Which tokens are in which of packed sequences."""


def excused(backend: Backend, logits: Array, targets: Array, active: Array) -> tuple[Array, Array]:
    """Labels in which those that need not be a class are replaced by one, and where these are.

    The kernel would make NaN of them, which would have to be removed again; and people look for NaN in their programs.
    """
    index, legal = backend.indices(logits, targets)
    return backend.where(legal | ~active, index, -1), ~(legal | active)


def without_excused(backend: Backend, nll: Array, active: Array, free: Array) -> Array:
    return backend.where(free, 0.0, counting.without_masked_nan(backend, nll, active))
