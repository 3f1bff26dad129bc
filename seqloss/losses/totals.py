"""Totals of a sequence loss: how they are made, placed, added and divided. Their numbers are in ``columns``."""

from typing import Any, NamedTuple

from seqloss.core import dispatch, dtypes
from seqloss.core.call import Call
from seqloss.core.errors import NO_DERIVATIVE, BackendError, DTypeError
from seqloss.core.protocol import Array, Arrays, Backend
from seqloss.losses import columns
from seqloss.losses.counting import Weights
from seqloss.losses.sequence_op import SequenceLossOp


class Totals(NamedTuple):
    """The two arrays of a :class:`seqloss.LossSum`."""

    limbs: Array
    barrier: Array


class TotalsOp(NamedTuple):
    """The totals of a sequence loss as columns [19, 2 or 3].

    These are the weighted losses, the weights, and, if there is ``is_right``, the weights of the tokens where it is
    True.
    """

    loss: SequenceLossOp

    @property
    def backend(self) -> Backend:
        return self.loss.backend

    @property
    def opaque(self) -> bool:
        return True

    def on(self, backend: Backend) -> "TotalsOp":
        return TotalsOp(self.loss.on(backend))

    def composed(self, *arrays: Array | None) -> tuple[Array]:
        return self.forward(*arrays)[0]

    def forward(
        self, logits: Array, targets: Array, weights: Array | None, kept: Array | None, is_right: Array | None
    ) -> tuple[tuple[Array], tuple[()]]:
        losses, counts = self.loss.weighted(logits, targets, weights, kept)
        return (columns_of(self.backend, losses, counts, is_right),), ()

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        raise BackendError(NO_DERIVATIVE)


def columns_of(backend: Backend, losses: Array, counts: Weights, is_right: Array | None) -> Array:
    """The columns [19, 2 or 3] of weighted losses, of their weights, and of those where ``is_right``."""
    found = [columns.of_floats(backend, losses), columns.of_weights(backend, losses, *counts[:2])]
    if is_right is not None:
        active = is_right if counts.active is None else is_right & counts.active
        values = None if counts.values is None else backend.where(is_right, counts.values, 0.0)
        found.append(columns.of_weights(backend, losses, values, active))
    limbs = backend.concat([backend.expand_dims(x, axis=1) for x in found], axis=1)
    for _ in range(3):  # a digit is below 2**47, then 2**32, then 2**17
        limbs = columns.carried(backend, limbs)
    return backend.astype(limbs, "int32")


class BarrierOp(NamedTuple):
    """A 0 that refuses derivatives with respect to other arrays.

    It is added to whatever is computed from integers: through integers a framework would find no derivative, and say
    nothing.
    """

    backend: Backend
    text: str = NO_DERIVATIVE

    @property
    def opaque(self) -> bool:
        return True

    def on(self, backend: Backend) -> "BarrierOp":
        return BarrierOp(backend, self.text)

    def composed(self, zero: Array, *others: Array) -> tuple[Array]:
        return (zero,)

    def forward(self, zero: Array, *others: Array) -> tuple[tuple[Array], tuple[()]]:
        return (zero,), ()

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        raise BackendError(self.text)


class QuotientOp(NamedTuple):
    """The quotient of two totals, as a function of that 0 and of the columns: 0 where the denominator is 0."""

    backend: Backend
    numerator: int
    denominator: int = columns.WEIGHTS

    @property
    def opaque(self) -> bool:
        return False

    def on(self, backend: Backend) -> "QuotientOp":
        return QuotientOp(backend, self.numerator, self.denominator)

    def composed(self, zero: Array, limbs: Array) -> tuple[Array]:
        backend, dtype = self.backend, self.backend.dtype(zero)
        terms, scales = columns.scaled_terms(backend, limbs, dtype)
        wanted = self.numerator, self.denominator
        rows, counts = (backend.permute_dims(x, (1, 0)) for x in (terms, limbs[columns.DIGITS :, ...]))
        n, d = (backend.reshape(rows[i : i + 1, ...], (columns.DIGITS,)) for i in wanted)
        scale_n, scale_d = (backend.reshape(scales[:, i : i + 1], ()) for i in wanted)
        quotient = backend.quotient(*(backend.wide_sum(x, None, axis=(0,)) for x in (n, d))) / scale_n * scale_d
        of_n, of_d = (counts[i : i + 1, ...] for i in wanted)
        n, d = columns.not_finite(backend, n, of_n), columns.not_finite(backend, d, of_d)
        is_empty = backend.equal(d, 0.0)
        other = backend.where(is_empty, 0.0, n / backend.where(is_empty, 1.0, d))
        is_finite = backend.equal(backend.count_nonzero(backend.concat([of_n, of_d], axis=0), axis=(0, 1)), 0)
        return (backend.where(is_finite, quotient, other) + zero,)

    def forward(self, zero: Array, limbs: Array) -> tuple[tuple[Array], tuple[()]]:
        return self.composed(zero, limbs), ()

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array, None]:
        # A new array, because frameworks take over the memory of a gradient.
        return self.backend.astype(cotangents[0] * 1, self.backend.dtype(arrays[0])), None


def barrier(backend: Backend, dtype: str, logits: Array, *others: Array | None, text: str = NO_DERIVATIVE) -> Array:
    """0, which cannot be differentiated with respect to these arrays; ``text`` says so.

    It depends on an empty sum of their numbers, because frameworks keep the inputs of such an operation as long as its
    result.
    """
    zero = backend.reshape(backend.astype(backend.arange(1, like=logits) * 0, dtype), ())
    watched = [x for x in (logits, *others) if x is not None and not backend.is_stopped(x)]
    if not watched:  # TensorFlow 2.21 makes the backward pass of all that a function returns
        return zero
    nothing = [backend.sum(x[..., :0], axis=tuple(range(len(backend.sizes(x))))) for x in watched]
    return backend.run(BarrierOp(backend, text), (zero, *nothing))[0]


def placed(rows: list[list[int]], dtype: str, like: Array | None) -> Totals:
    """Totals of host values, [19, 2 or 3], beside an array."""
    host = dispatch.argument("limbs", rows)
    limbs = host.facts.astype(host.value, "int32")
    zero = host.facts.sum(host.facts.astype(limbs * 0, dtype), axis=(0, 1))
    if like is None:
        return Totals(limbs, zero)
    call = Call("like", like)
    return Totals(*(call.place(call.beside("limbs", x)) for x in (limbs, zero)))


def added(one: Totals, other: Totals) -> Totals:
    """The totals of both, of the framework of either; with the same columns."""
    if dispatch.is_host(one.limbs) and not dispatch.is_host(other.limbs):
        one, other = other, one
    call = Call("one LossSum", one.limbs)
    backend, barriers = call.backend, [one.barrier, other.barrier]
    with backend.scope(None):
        limbs = [one.limbs, call.place(call.beside("the other", other.limbs))]
        barriers[1] = call.place(call.beside("the other", other.barrier))
        dtype = "float64" if "float64" in map(backend.dtype, barriers) else "float32"
        zeros = [backend.astype(x, dtype) for x in barriers]
        return Totals(columns.carried(backend, limbs[0] + limbs[1]), zeros[0] + zeros[1])


def quotient(of: Totals, numerator: int) -> Array:
    """A total divided by that of the weights, in the dtype of the barrier."""
    backend = dispatch.argument("limbs", of.limbs).facts
    dtype = backend.dtype(of.limbs)
    if dtype not in dtypes.INTEGERS:
        raise DTypeError(
            f"the limbs of a LossSum must be integers, got {dtype}; add LossSums up, as with psum, and do not average "
            "them, as with pmean: mean() is the mean of the total"
        )
    with backend.scope(None):
        return backend.run(QuotientOp(backend, numerator), (of.barrier, of.limbs))[0]
