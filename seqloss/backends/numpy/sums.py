"""NumPy: sums with at least twice the digits, and their quotients.

Those of float32 are numbers in float64. For those of float64, which has no wider dtype everywhere, there are pairs.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from seqloss.backends import compensated
from seqloss.backends.numpy.ops import where
from seqloss.core.protocol import Array

_UPPER_HALF = np.uint64(~((1 << 27) - 1) & ((1 << 64) - 1))
"""The bits of a float64 without the last 27 of its 53 digits."""

_FEW_TERMS = 512
"""So few that Python adds them up faster than NumPy does in ten steps."""


def wide_sum(x: Array, weights: Array | None, *, axis: tuple[int, ...]) -> Any:
    if x.dtype == np.float64:
        return _pair_sum(x, weights, axis)
    terms = x if weights is None else np.multiply(x, weights, dtype=np.float64)
    return np.add.reduce(terms, axis=axis, dtype=np.float64)


def quotient(numerator: Any, denominator: Any) -> Array:
    if isinstance(numerator, _Pair):
        return _pair_quotient(numerator, denominator)
    if isinstance(numerator, float):  # Python's numbers are much faster than NumPy's
        by = float(denominator)
        return np.float32(float(numerator) / by if by else 0.0)
    empty = np.equal(denominator, 0)
    if isinstance(empty, np.bool_):
        return (np.zeros_like(numerator) if empty else numerator / denominator).astype(np.float32)
    return where(empty, 0.0, numerator / where(empty, 1.0, denominator)).astype(np.float32)


class _Pair(NamedTuple):
    """A number with twice the digits: the nearest float64, and what is missing."""

    high: Array
    low: Array


def _pair_sum(x: Array, weights: Array | None, axis: tuple[int, ...]) -> _Pair:
    terms = x[None] if weights is None else _exact_products(x, weights)
    if terms.size <= _FEW_TERMS and len(axis) == x.ndim:
        numbers = terms.ravel().tolist()
        try:
            high = math.fsum(numbers)
            if math.isfinite(high):
                return _Pair(high, math.fsum((*numbers, -high)))
        except (OverflowError, ValueError):  # of infinities
            pass
    high, low = _sum_on_grids(terms, (0, *(i + 1 for i in axis)))
    fine: Any = np.isfinite(high)
    if np.count_nonzero(fine) == np.size(fine):
        return _Pair(high, low)
    plain = np.add.reduce(x if weights is None else x * weights, axis=axis)
    return _Pair(np.where(fine, high, plain), np.where(fine, low, 0.0))


def _sum_on_grids(terms: Array, axis: tuple[int, ...]) -> tuple[Array, Array]:
    """The sum, and what is missing.

    Multiples of a power of 2, chosen for the largest term, add up without an error; so do those of a smaller one in
    what is left. The sum of the rest is far below the last digit.
    """
    bits = math.prod(terms.shape[i] for i in axis).bit_length()
    _, exponents = np.frexp(np.maximum.reduce(abs(terms), axis=axis, keepdims=True, initial=0.0))
    grid = np.ldexp(1.5, exponents + bits)
    first = (terms + grid) - grid
    terms = terms - first
    grid *= 2.0 ** (bits - 52)
    second = (terms + grid) - grid
    terms -= second
    rest = np.add.reduce(second, axis=axis) + np.add.reduce(terms, axis=axis)
    return compensated.difference(np.add.reduce(first, axis=axis), -rest)


def _exact_products(x: Array, weights: Array) -> Array:
    """Four terms of each product on a first axis: those of the halves of both."""
    products = _halves(x)[:, None] * _halves(weights)
    return products.reshape(4, *x.shape)


def _halves(x: Array) -> Array:
    halves = np.empty((2, *x.shape))
    np.bitwise_and(x.view(np.uint64), _UPPER_HALF, out=halves[0].view(np.uint64))
    np.subtract(x, halves[0], out=halves[1])
    return halves


def _pair_quotient(numerator: _Pair, denominator: Any) -> Array:
    pair = denominator if isinstance(denominator, _Pair) else _Pair(np.asarray(denominator, np.float64)[()], 0.0)
    if np.ndim(numerator.high) == np.ndim(pair.high) == 0:
        # Python's numbers are much faster than NumPy's.
        high, low = float(pair.high), float(pair.low)
        first, rest = _divided(float(numerator.high), float(numerator.low), high, low) if high else (0.0, 0.0)
        return np.float64(first + rest if math.isfinite(rest) else first)
    empty = np.equal(pair.high, 0)
    first, rest = _divided(*numerator, np.where(empty, 1.0, pair.high), pair.low)
    return np.where(empty, 0.0, first + np.where(np.isfinite(rest), rest, 0.0))


def _divided(high: Any, low: Any, by_high: Any, by_low: Any) -> tuple[Any, Any]:
    """The quotient of the first two by the last two, and what is missing."""
    first = high / by_high
    product, cut = compensated.product(first, by_high, "float64")
    return first, (((high - product) - cut) + (low - first * by_low)) / by_high
