"""The loss of a batch of sequences from hidden states and a kernel, as an operation that stores no logits.

Where the loss is one number, the cotangents of token losses are known from the weights alone. So the forward pass makes
the gradients, chunk by chunk, and the pullback multiplies them. Other losses make the logits anew on the way back.
"""

from typing import Any, NamedTuple

from seqloss.core.errors import NO_DERIVATIVE, BackendError
from seqloss.core.linear import Encoded, LinearFound, LinearSpec, Tokens, decodes
from seqloss.core.protocol import Array, Arrays, Backend
from seqloss.losses import columns, linear_codes, reduction
from seqloss.losses.objective import Given
from seqloss.losses.sequence_op import Counted, SequenceLossOp
from seqloss.losses.totals import columns_of

HIDDEN, TARGETS = 0, 3
"""The places of arrays. These are hidden, kernel, bias, targets and weights, and what a sequence loss has beside: kept,
class weights, prior, normalizer, offsets."""


class LinearLossOp(NamedTuple):
    """The loss of hidden, kernel, bias, targets and what :class:`SequenceArguments` has beside."""

    loss: SequenceLossOp
    """That of the logits."""
    spec: LinearSpec

    @property
    def backend(self) -> Backend:
        return self.loss.backend

    @property
    def opaque(self) -> bool:
        """Second derivatives would need a graph of what is written over."""
        return True

    def on(self, backend: Backend) -> "LinearLossOp":
        return LinearLossOp(self.loss.on(backend), self.spec)

    @property
    def is_foreseen(self) -> bool:
        """Whether the gradients can be made in the forward pass."""
        return self.loss.plan.is_scalar and (self.spec.has_gradients or self.loss.wanted.weights)

    @property
    def leading(self) -> int:
        """The arrays whose gradients the forward pass makes: hidden, kernel and bias."""
        return TARGETS

    def encoded(self) -> Encoded:
        return linear_codes.encoded("loss", self.loss, self.spec)

    def results(self, *arrays: Array | None) -> tuple[tuple[Any, ...], str]:
        """The shape of the loss, of which no size need be known, and its dtype."""
        sizes, plan = self.backend.sizes(arrays[HIDDEN])[:-1], self.loss.plan
        dtype = "float32" if self.loss.exact else self.loss.dtype
        if plan.is_scalar or not plan.axis:
            return () if plan.is_scalar else sizes, dtype
        offsets = arrays[-1]
        return sizes[:1] if offsets is None else (self.backend.sizes(offsets)[0] - 1,), dtype

    def asking(self, hidden: bool, kernel: bool, bias: bool, weights: bool) -> "LinearLossOp":
        """The same for those who want these gradients."""
        loss, spec = self.loss, self.spec
        wanted, constant = loss.wanted._replace(weights=weights), loss.constant_weights or not weights
        loss = loss._replace(wanted=wanted, constant_weights=constant)
        return LinearLossOp(loss, LinearSpec(spec.dtype, spec.chunk, hidden, kernel, bias))

    def alone(self) -> "LinearLossOp":
        """The same for those who want no gradients."""
        loss = self.loss._replace(wanted=self.loss.wanted._replace(weights=False))
        return LinearLossOp(loss, self.spec.without_gradients())

    def composed(self, *arrays: Array | None) -> tuple[Array]:
        return self.forward(*arrays)[0]

    def forward(self, *arrays: Array | None) -> tuple[tuple[Array], Any]:
        if self.is_foreseen:
            outputs, gradients = self._at_once(arrays, self._one(arrays))
            return outputs, (gradients, ())
        counted = self._counted(arrays)
        losses = self.loss.without_excused(self._through(arrays, counted, None).outputs[0], counted)
        return (self.loss.rounded(self.loss.reduced(losses, counted).loss),), self.kept(losses)

    def kept(self, losses: Array) -> Any:
        """The residuals of a loss that is not foreseen: the losses of tokens, of which the others are made again."""
        return (), (losses,)

    def losses_kept(self, residuals: Any, like: Array) -> Array:
        return residuals[1][0]

    def at_once(self, arrays: Arrays, cotangent: Array | None) -> tuple[tuple[Array], tuple[Array | None, ...]]:
        """The loss, and its wide gradients for a cotangent, of an operation that ``is_foreseen``; None stands for 1."""
        return self._at_once(arrays, self._one(arrays) if cotangent is None else cotangent)

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        return self.in_dtypes(arrays, self.wide_pullback(arrays, residuals, cotangents))

    def wide_pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        """The gradients of all arrays in the dtype of the computation, for :meth:`in_dtypes`."""
        gradients, others = residuals
        cotangent = self.backend.astype(cotangents[0], self.loss.tokens.kernel.spec.dtype)
        if self.is_foreseen:
            is_zero = self.backend.equal(cotangent, 0.0)
            # Selected, because a gradient may be NaN.
            return tuple(None if x is None else self.backend.where(is_zero, 0.0, x * cotangent) for x in gradients)
        counted, (losses,) = self._counted(arrays), others
        reduced, has_normalizer = self.loss.reduced(losses, counted), counted.normalizer is not None
        pulled = self.loss.pulled(losses, counted, reduced, cotangent, self.loss.wanted.weights, has_normalizer)
        found = LinearFound((), None, None, None)
        if self.spec.has_gradients:
            found = self._through(arrays, counted, pulled.losses)
        return self._gradients(arrays, found, self.loss.to_weights(pulled.weights, counted.tokens.active))

    def in_dtypes(self, arrays: Arrays, gradients: Arrays) -> tuple[Array | None, ...]:
        """Gradients in the dtypes of the arrays, rounded once."""
        pairs = zip(arrays, gradients, strict=True)
        return tuple(
            None if x is None else self.backend.astype(self.loss.rounded(x), self.backend.dtype(array))
            for array, x in pairs
        )

    def _one(self, arrays: Arrays) -> Array:
        backend = self.backend
        one = backend.arange(1, like=arrays[HIDDEN]) + 1
        return backend.reshape(backend.astype(one, self.loss.tokens.kernel.spec.dtype), ())

    def _at_once(self, arrays: Arrays, cotangent: Array) -> tuple[tuple[Array], tuple[Array | None, ...]]:
        """The loss, and the gradients of all arrays as they were computed."""
        counted = self._counted(arrays)
        like = arrays[TARGETS] if counted.tokens.mass is None else counted.tokens.mass
        to_losses, known = self.loss.foreseen(counted, like, cotangent)
        found = self._through(arrays, counted, to_losses)
        loss, to_weights = self.loss.finished(found.outputs[0], counted, known, cotangent)
        return (loss,), self._gradients(arrays, found, to_weights)

    def _gradients(self, arrays: Arrays, found: LinearFound, to_weights: Array | None) -> tuple[Array | None, ...]:
        """One for each array."""
        return found.hidden, found.kernel, found.bias, None, to_weights, *(None,) * (len(arrays) - 5)

    def _counted(self, arrays: Arrays) -> Counted:
        """Of logits that nobody has the classes are those of the kernel."""
        hidden, kernel, _, *others = arrays
        return self.loss.counted(kernel, *others, of_tokens=hidden)

    def _through(self, arrays: Arrays, counted: Counted, cotangents: Array | None) -> LinearFound:
        """The losses of tokens, and the gradients for their cotangents."""
        given, tokens, backend = counted.tokens, self.loss.tokens, self.backend
        if cotangents is not None and given.active is not None:
            cotangents = backend.where(given.active, cotangents, 0.0)
        if not self.spec.has_gradients:
            cotangents = None

        def step(logits: Array, of: Tokens) -> tuple[tuple[Array], Array | None]:
            part = Given(logits, of.targets, of.active, given.class_weights, given.prior, of.units, of.mass)
            if of.cotangents is None:
                return (tokens.forward(part)[0],), None
            if hasattr(backend, "token_statistics_and_pullback") and not tokens.is_soft:
                losses, slope = tokens.at_once(part, of.cotangents, into=logits)
                return (losses,), slope
            losses, residuals = tokens.forward(part)
            return (losses,), tokens.pullback(part, residuals, of.cotangents).logits

        of_tokens = Tokens(given.targets, given.active, given.units, given.mass, cotangents)
        hidden, kernel, bias = arrays[:TARGETS]
        return backend.linear(step, hidden, kernel, bias, of_tokens, self.spec)


class LinearTotalsOp(NamedTuple):
    """The totals of such losses, as columns: see :class:`seqloss.losses.totals.TotalsOp`."""

    loss: SequenceLossOp
    spec: LinearSpec
    counts_right: bool

    @property
    def backend(self) -> Backend:
        return self.loss.backend

    @property
    def opaque(self) -> bool:
        return True

    def on(self, backend: Backend) -> "LinearTotalsOp":
        return LinearTotalsOp(self.loss.on(backend), self.spec, self.counts_right)

    def encoded(self) -> Encoded:
        return linear_codes.encoded("totals", self.loss, self.spec, self.counts_right)

    def results(self, *arrays: Array | None) -> tuple[tuple[Any, ...], str]:
        return (columns.SIZE, 3 if self.counts_right else 2), "int32"

    def composed(self, *arrays: Array | None) -> tuple[Array]:
        return self.forward(*arrays)[0]

    def forward(
        self,
        hidden: Array,
        kernel: Array,
        bias: Array | None,
        targets: Array,
        weights: Array | None,
        kept: Array | None,
        *_: None,
    ) -> tuple[tuple[Array], tuple[()]]:
        backend, tokens = self.backend, self.loss.tokens
        counted = self.loss.counted(kernel, targets, weights, kept, of_tokens=hidden)
        given = counted.tokens

        def step(logits: Array, of: Tokens) -> tuple[tuple[Array, ...], None]:
            part = Given(logits, of.targets, of.active)
            right = (backend.is_highest(logits, of.targets),) if self.counts_right else ()
            return (tokens.forward(part)[0], *right), None

        of_tokens = Tokens(given.targets, given.active, None, None, None)
        losses, *right = backend.linear(step, hidden, kernel, bias, of_tokens, self.spec).outputs
        losses = self.loss.without_excused(losses, counted)
        added = reduction.forward(backend, reduction.of_name("none"), losses, counted.weights).loss
        return (columns_of(backend, added, counted.weights, right[0] if right else None),), ()

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        raise BackendError(NO_DERIVATIVE)


def _loss_of(backend: Backend, code: Encoded) -> LinearLossOp:
    loss, spec, _ = linear_codes.decoded(backend, code)
    return LinearLossOp(loss, spec)


def _totals_of(backend: Backend, code: Encoded) -> LinearTotalsOp:
    loss, spec, (counts_right,) = linear_codes.decoded(backend, code)
    return LinearTotalsOp(loss, spec, counts_right)


decodes("loss", _loss_of)
decodes("totals", _totals_of)
