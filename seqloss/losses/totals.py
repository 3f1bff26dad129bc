"""Sums that no order and no grouping can change: fixed-point numbers whose digits are integers.

A total is a column of integers: 16 digits of 16 bits, the lowest of which counts 2**-112, then how many NaN, infinities
and negative infinities there were. Each summand is cut into digits by itself, and integers add up without an error. A
digit is kept in 32 bits, so that columns can also be added without a carry, 2**14 times: by a collective of all
workers, or leaf by leaf.

What a summand has below 2**-112 is cut off. One of 2**128 and beyond, which no float32 holds, counts as infinite.
"""

from fractions import Fraction
from typing import Any, NamedTuple

from seqloss.core.errors import NO_DERIVATIVE, BackendError
from seqloss.core.protocol import Array, Arrays, Backend
from seqloss.losses.sequence_op import SequenceLossOp

LOSSES, WEIGHTS, RIGHT = range(3)
"""The columns."""
DIGITS, RADIX = 16, 2**16
_LOWEST = -112
_ONE = 7
"""The place of the digit that counts 1."""
SIZE = DIGITS + 3
"""Of a column: the digits, and the three counts."""


class TotalsOp(NamedTuple):
    """The totals of a sequence loss as columns [19, 2 or 3], and a 0 that cannot be differentiated.

    The columns are the weighted losses, the weights, and, if there is ``is_right``, the weights of the tokens where it
    is True. The 0, in the dtype of the loss, is added to whatever is computed from integers: through those frameworks
    would find no derivative, and say nothing.
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

    def composed(self, *arrays: Array | None) -> tuple[Array, Array]:
        return self.forward(*arrays)[0]

    def forward(
        self, logits: Array, targets: Array, weights: Array | None, kept: Array | None, is_right: Array | None
    ) -> tuple[tuple[Array, Array], tuple[()]]:
        backend = self.backend
        losses, counts = self.loss.weighted(logits, targets, weights, kept)
        columns = [_column(backend, losses), _weights(backend, losses, *counts[:2])]
        if is_right is not None:
            active = is_right if counts.active is None else is_right & counts.active
            values = None if counts.values is None else backend.where(is_right, counts.values, 0.0)
            columns.append(_weights(backend, losses, values, active))
        limbs = backend.concat([backend.expand_dims(x, axis=1) for x in columns], axis=1)
        for _ in range(3):  # a digit is below 2**47, then 2**32, then 2**17
            limbs = carried(backend, limbs)
        limbs = backend.astype(limbs, "int32")
        zero = backend.sum(limbs * 0, axis=(0, 1))
        return (limbs, backend.astype(zero, self.loss.dtype)), ()

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        raise BackendError(NO_DERIVATIVE)


class QuotientOp(NamedTuple):
    """The quotient of two totals, as a function of that 0 and of the columns: 0 where the denominator is 0."""

    backend: Backend
    numerator: int
    denominator: int = WEIGHTS

    @property
    def opaque(self) -> bool:
        return False

    def on(self, backend: Backend) -> "QuotientOp":
        return QuotientOp(backend, self.numerator, self.denominator)

    def composed(self, zero: Array, limbs: Array) -> tuple[Array]:
        backend, dtype = self.backend, self.backend.dtype(zero)
        rows = backend.permute_dims(_terms(backend, limbs, dtype), (1, 0))
        counts = backend.permute_dims(limbs[DIGITS:, ...], (1, 0))
        n, d = (backend.reshape(rows[i : i + 1, ...], (DIGITS,)) for i in (self.numerator, self.denominator))
        quotient = backend.quotient(*(backend.wide_sum(x, None, axis=(0,)) for x in (n, d)))
        of_n, of_d = (counts[i : i + 1, ...] for i in (self.numerator, self.denominator))
        n, d = _not_finite(backend, n, of_n), _not_finite(backend, d, of_d)
        is_empty = backend.equal(d, 0.0)
        other = backend.where(is_empty, 0.0, n / backend.where(is_empty, 1.0, d))
        is_finite = backend.equal(backend.count_nonzero(backend.concat([of_n, of_d], axis=0), axis=(0, 1)), 0)
        return (backend.where(is_finite, quotient, other) + zero,)

    def forward(self, zero: Array, limbs: Array) -> tuple[tuple[Array], tuple[()]]:
        return self.composed(zero, limbs), ()

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array, None]:
        # A new array, because frameworks take over the memory of a gradient.
        return self.backend.astype(cotangents[0] * 1, self.backend.dtype(arrays[0])), None


def carried(backend: Backend, limbs: Array) -> Array:
    """The same numbers with smaller digits: each gives its upper bits to the one above it, which may give on later.

    After an addition of columns that have been through this, digits are again below 2**16 + 4, but for the highest.
    """
    last = DIGITS - 1
    given = limbs[:last, ...] // RADIX
    kept = limbs[:last, ...] - given * RADIX
    parts = kept[:1, ...], kept[1:, ...] + given[: last - 1, ...], limbs[last:DIGITS, ...] + given[last - 1 :, ...]
    return backend.concat([*parts, limbs[DIGITS:, ...]], axis=0)


def digits(backend: Backend, limbs: Array) -> list[Array]:
    """The only digits that a total has, [1, totals] each: in [0, 2**16) but for the highest, which has its sign."""
    found, given = [], limbs[:1, ...] * 0
    for place in range(DIGITS - 1):
        x = limbs[place : place + 1, ...] + given
        given = x // RADIX
        found.append(x - given * RADIX)
    return [*found, limbs[DIGITS - 1 : DIGITS, ...] + given]


def columns(backend: Backend, limbs: Array) -> Array:
    """[totals, 19]: the totals with the only digits that they have."""
    return backend.permute_dims(backend.concat([*digits(backend, limbs), limbs[DIGITS:, ...]], axis=0), (1, 0))


def is_column(x: Any) -> bool:
    """Whether a value of a checkpoint is one."""
    return isinstance(x, (list, tuple)) and len(x) == SIZE and all(type(i) is int and abs(i) < 2**31 for i in x)


def number(column: list[int]) -> float:
    """The nearest float of a column of Python integers, without what is not finite."""
    return float(Fraction(sum(x * RADIX**i for i, x in enumerate(column[:DIGITS])), 2**-_LOWEST))


def _terms(backend: Backend, limbs: Array, dtype: str) -> Array:
    """[16, totals]: floats that add up to each total, and do not cancel."""
    *lower, highest = digits(backend, limbs)
    is_negative = highest < 0
    # The complement of a negative number, less 1.
    lower = [backend.where(is_negative, x - (RADIX - 1), x) for x in lower]
    highest = backend.where(is_negative, highest + 1, highest)
    lowest = backend.where(is_negative, limbs[:1, ...] * 0 - 1, limbs[:1, ...] * 0)
    *others, last = (backend.astype(x, dtype) for x in lower)
    # Joined, because 2**128 is no float32.
    last = backend.astype(highest, dtype) * RADIX + last
    places = [*(others), last, backend.astype(lowest, dtype)]
    units = [2.0 ** (16 * place + _LOWEST) for place in (*range(DIGITS - 1), 0)]
    return backend.concat([x * unit for x, unit in zip(places, units, strict=True)], axis=0)


def _not_finite(backend: Backend, terms: Array, counts: Array) -> Array:
    """The plain sum of terms with what is not finite: counts [1, 3] of NaN, infinities and negative infinities."""
    total = backend.sum(terms, axis=(0,))
    nan, infinite, negative = (backend.reshape(x, ()) for x in _columns(backend, counts > 0))
    total = backend.where(infinite, float("inf"), total)
    total = backend.where(negative, float("-inf"), total)
    return backend.nan_unless(~(nan | (infinite & negative)), total)


def _columns(backend: Backend, x: Array) -> list[Array]:
    x = backend.permute_dims(x, (1, 0))
    return [x[i : i + 1, ...] for i in range(SIZE - DIGITS)]


def _column(backend: Backend, x: Array) -> Array:
    """The exact sum of floats [batch, time], as a column of integers in 64 bits."""
    dtype = backend.dtype(x)
    integers, most = ("int64", 70) if dtype == "float64" else ("int32", 46)
    is_moderate = abs(x) * 0.5 < 2.0**127
    bad = ~backend.equal(x, x), ~is_moderate & (x > 0), ~is_moderate & (x < 0)
    counts = [backend.reshape(_count(backend, where), (1,)) for where in bad]
    # The selections keep compilers from subtracting from a product that they have not rounded.
    x = backend.expand_dims(backend.where(is_moderate, x, 0.0), axis=0)
    units = [2.0 ** (16 * place + _LOWEST) for place in range(DIGITS - 1)]
    # A number so large beside a unit has a 0 there, because of the digits that a float has.
    limits = _numbers(backend, [u * 2.0**most if u < 2.0 ** (127 - most) else float("inf") for u in units], x)
    scaled = backend.where(abs(x) < limits, x, 0.0) * _numbers(backend, [1 / u for u in units], x)
    above = backend.astype(scaled * (1 / RADIX), integers)  # towards 0
    found = backend.astype(scaled - backend.astype(above, dtype) * RADIX, integers)
    column = backend.sum(found, axis=(1, 2), dtype="int64")
    return backend.concat([column, column[:1, ...] * 0, *counts], axis=0)


def _numbers(backend: Backend, numbers: list[float], like: Array) -> Array:
    """[numbers, 1, 1], in the dtype of an array."""
    one = backend.astype(backend.arange(1, like=like) * 0 + 1, backend.dtype(like))
    return backend.reshape(backend.concat([one * x for x in numbers], axis=0), (len(numbers), 1, 1))


def _weights(backend: Backend, losses: Array, values: Array | None, active: Array | None) -> Array:
    """The column of the weights, which are ones where there are no values."""
    if values is not None:
        return _column(backend, values)
    count = _count(backend, backend.ones_like(losses, dtype="bool") if active is None else active)
    nothing = count * 0
    return _stacked(backend, [count if place == _ONE else nothing for place in range(SIZE)])


def _count(backend: Backend, where: Array) -> Array:
    return backend.astype(backend.count_nonzero(where, axis=(0, 1)), "int64")


def _stacked(backend: Backend, numbers: list[Array]) -> Array:
    return backend.concat([backend.reshape(x, (1,)) for x in numbers], axis=0)
