"""Sums that are the same in every order and grouping: fixed-point numbers whose digits are integers.

A total is a column of integers: 16 digits of 16 bits, the lowest of which counts 2**-112, then how many NaN, infinities
and negative infinities there were. Each summand is cut into digits by itself, and integers add up without an error. A
digit is kept in 32 bits, so that columns can also be added without a carry, 2**14 times: by a collective of all
workers, or leaf by leaf.

The part of a summand below 2**-112 is cut off. A summand of 2**128 or more, which no float32 holds, counts as infinite.
"""

from fractions import Fraction
from typing import Any

from seqloss.core.protocol import Array, Backend

LOSSES, WEIGHTS, RIGHT = range(3)
"""The columns."""
DIGITS, RADIX = 16, 2**16
_LOWEST = -112
_ONE = 7
"""The place of the digit that counts 1."""
SIZE = DIGITS + 3
"""Of a column: the digits, and the three counts."""
_SHIFT = 2.0**-48
"""The factor that brings the largest totals, of 2**159, into the range of float32."""


def carried(backend: Backend, limbs: Array) -> Array:
    """The same numbers with smaller digits: each carries its upper bits to the digit above it.

    After an addition of columns that were carried, all digits but the highest are again below 2**16 + 4.
    """
    last = DIGITS - 1
    given = limbs[:last, ...] // RADIX
    kept = limbs[:last, ...] - given * RADIX
    parts = kept[:1, ...], kept[1:, ...] + given[: last - 1, ...], limbs[last:DIGITS, ...] + given[last - 1 :, ...]
    return backend.concat([*parts, limbs[DIGITS:, ...]], axis=0)


def digits(backend: Backend, limbs: Array) -> list[Array]:
    """The unique digits of a total, [1, totals] each: in [0, 2**16), except the highest, which has the sign."""
    found, given = [], limbs[:1, ...] * 0
    for place in range(DIGITS - 1):
        x = limbs[place : place + 1, ...] + given
        given = x // RADIX
        found.append(x - given * RADIX)
    return [*found, limbs[DIGITS - 1 : DIGITS, ...] + given]


def settled(backend: Backend, limbs: Array) -> Array:
    """[totals, 19]: the totals with their unique digits."""
    return backend.permute_dims(backend.concat([*digits(backend, limbs), limbs[DIGITS:, ...]], axis=0), (1, 0))


def is_column(x: Any) -> bool:
    """Whether a value of a checkpoint is one."""
    return isinstance(x, (list, tuple)) and len(x) == SIZE and all(type(i) is int and abs(i) < 2**31 for i in x)


def number(column: list[int]) -> float:
    """The nearest float of a column of Python integers, without what is not finite."""
    return float(Fraction(sum(x * RADIX**i for i, x in enumerate(column[:DIGITS])), 2**-_LOWEST))


def scaled_terms(backend: Backend, limbs: Array, dtype: str) -> tuple[Array, Array]:
    """[16, totals]: floats that add up to each total times a power of 2, and do not cancel; [1, totals]: that power.

    It is 2**-48 from 2**96 on, because totals go beyond float32, which ends at 2**128; else 1.
    """
    *lower, highest = digits(backend, limbs)
    is_negative = highest < 0
    # The complement of a negative number, less 1.
    lower = [backend.where(is_negative, x - (RADIX - 1), x) for x in lower]
    highest = backend.where(is_negative, highest + 1, highest)
    lowest = backend.where(is_negative, limbs[:1, ...] * 0 - 1, limbs[:1, ...] * 0)
    large = backend.concat([*lower[DIGITS - 3 :], highest], axis=0)
    ones = backend.ones_like(highest, dtype=dtype)
    scale = backend.where(backend.equal(backend.count_nonzero(large, axis=(0,)), 0), ones, ones * _SHIFT)
    *others, last = (backend.astype(x, dtype) for x in lower)
    # Joined, because 2**128 is no float32.
    last = backend.astype(highest, dtype) * RADIX + last
    places = [*others, last, backend.astype(lowest, dtype)]
    units = [2.0 ** (16 * place + _LOWEST) for place in (*range(DIGITS - 1), 0)]
    return backend.concat([x * scale * unit for x, unit in zip(places, units, strict=True)], axis=0), scale


def not_finite(backend: Backend, terms: Array, counts: Array) -> Array:
    """The plain sum of terms that are not finite: counts [1, 3] of NaN, infinities and negative infinities."""
    total = backend.sum(terms, axis=(0,))
    nan, infinite, negative = (backend.reshape(x, ()) for x in _columns(backend, counts > 0))
    total = backend.where(infinite, float("inf"), total)
    total = backend.where(negative, float("-inf"), total)
    return backend.nan_unless(~(nan | (infinite & negative)), total)


def _columns(backend: Backend, x: Array) -> list[Array]:
    x = backend.permute_dims(x, (1, 0))
    return [x[i : i + 1, ...] for i in range(SIZE - DIGITS)]


def of_floats(backend: Backend, x: Array) -> Array:
    """The exact sum of floats [batch, time], as a column of integers in 64 bits."""
    dtype = backend.dtype(x)
    integers, most = ("int64", 70) if dtype == "float64" else ("int32", 46)
    is_moderate = abs(x) * 0.5 < 2.0**127
    bad = ~backend.equal(x, x), ~is_moderate & (x > 0), ~is_moderate & (x < 0)
    counts = [backend.reshape(_count(backend, where), (1,)) for where in bad]
    # The selections keep compilers from subtracting from a product before it is rounded.
    x = backend.expand_dims(backend.where(is_moderate, x, 0.0), axis=0)
    units = [2.0 ** (16 * place + _LOWEST) for place in range(DIGITS - 1)]
    # A number that is so much larger than a unit has a 0 there, because a float has too few digits.
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


def of_weights(backend: Backend, losses: Array, values: Array | None, active: Array | None) -> Array:
    """The column of the weights, which are ones where there are no values."""
    if values is not None:
        return of_floats(backend, values)
    count = _count(backend, backend.ones_like(losses, dtype="bool") if active is None else active)
    nothing = count * 0
    return _stacked(backend, [count if place == _ONE else nothing for place in range(SIZE)])


def _count(backend: Backend, where: Array) -> Array:
    return backend.astype(backend.count_nonzero(where, axis=(0, 1)), "int64")


def _stacked(backend: Backend, numbers: list[Array]) -> Array:
    return backend.concat([backend.reshape(x, (1,)) for x in numbers], axis=0)
