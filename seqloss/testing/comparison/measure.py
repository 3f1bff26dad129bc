"""The arithmetic of a comparison: flat arrays of NumPy in, masks and distances of their entries out."""

from typing import Any, NamedTuple

import numpy as np

from seqloss.testing import tolerances

Array = Any

_BLOCK = 2**18
"""How many entries are measured at a time, in wide floats that take 16 bytes each."""


class Rules(NamedTuple):
    """What counts as the same."""

    dtype: str
    """Whose units count: a float dtype, or "int" for equality."""
    compute: str
    bound: Array
    """Of the shape of the arrays, as is ``scale``."""
    scale: Array | None


class Measured(NamedTuple):
    """One entry per entry of the arrays, in one axis. Distances are 0 where an entry is not finite on both sides."""

    finite: Array
    difference: Array
    ulp: Array
    at_scale: Array | None
    fraction: Array
    """The distance as a fraction of what is allowed."""
    wrong: dict[str, Array]
    """Which entries are wrong, by the name of the problem; no entry has more than one."""


def measured(actual: Array, expected: Array, rules: Rules) -> Measured:
    """Measure two arrays of one shape."""
    a, e = actual.reshape(-1), expected.reshape(-1)
    equal = _equal(a, e)
    finite = np.isfinite(a) & np.isfinite(e)
    difference, ulp, fraction = np.zeros(a.size), np.zeros(a.size), np.zeros(a.size)
    at_scale = None if rules.scale is None else np.zeros(a.size)
    unequal = np.flatnonzero(finite & ~equal)
    for start in range(0, unequal.size, _BLOCK):
        at = unequal[start : start + _BLOCK]
        x, y = a[at].astype(np.longdouble), e[at].astype(np.longdouble)
        if rules.dtype == "int":
            difference[at], fraction[at] = np.abs(x - y), np.inf
            continue
        # Each unit once: on all entries of a large array they are what takes the time.
        pairs = _Pairs(x, y, rules.dtype)
        difference[at], ulp[at] = pairs.difference, pairs.distance(pairs.unit)
        unit = pairs.unit
        if rules.scale is not None and at_scale is not None:
            size = np.maximum(pairs.size, rules.scale.flat[at])
            unit = tolerances.unit(size, rules.dtype)
            at_scale[at] = pairs.distance(unit)
        else:
            size = pairs.size
        fraction[at] = pairs.distance(_allowed(pairs, size, unit, rules, rules.bound.flat[at]))
    wrong = _special(a, e, equal, rules)
    taken = np.logical_or.reduce([*wrong.values()])
    return Measured(finite, difference, ulp, at_scale, fraction, {**wrong, "values": finite & (fraction > 1) & ~taken})


def _equal(a: Array, e: Array) -> Array:
    """Integers of any signs and sizes without a detour over floats, which would round them."""
    if a.dtype.kind in "iub" and e.dtype.kind in "iub":
        return ((a < 0) == (e < 0)) & (a.astype(np.uint64) == e.astype(np.uint64))
    return (a == e) | (np.isnan(a) & np.isnan(e))


class _Pairs:
    """Unequal finite numbers, whose unit is that of the larger one: neither array is the expected one.

    The distances are those of ``tolerances``, the smaller of the two ways round.
    """

    def __init__(self, x: Array, y: Array, dtype: str) -> None:
        x_size, y_size = np.abs(x), np.abs(y)
        self.size = np.maximum(x_size, y_size)
        self.unit = tolerances.unit(self.size, dtype)
        self.difference = np.abs(x - y)
        precision = tolerances.PRECISION[dtype]
        self.flushed = None
        if precision.flushed:
            smaller = np.minimum(x_size, y_size)
            self.flushed = (smaller < precision.smallest_normal) & (self.difference <= precision.smallest_normal)

    def distance(self, unit: Array) -> Array:
        with np.errstate(all="ignore"):
            distance = (self.difference / unit).astype(np.float64)
        return distance if self.flushed is None else np.where(self.flushed, 0.0, distance)


def _allowed(pairs: _Pairs, size: Array, unit: Array, rules: Rules, bound: Array) -> Array:
    """The allowed difference, at the scale of ``size``, whose unit of ``rules.dtype`` is ``unit``."""
    if rules.compute == rules.dtype:
        return bound * unit
    rounding = tolerances.HALF_ULPS * pairs.unit
    # A bound of 0 asks for equal numbers, so not even the rounding of a half-precision result is allowed for.
    return np.where(bound == 0, 0.0, bound * tolerances.unit(size, rules.compute) + rounding)


def _special(a: Array, e: Array, equal: Array, rules: Rules) -> dict[str, Array]:
    """Entries that are NaN, exactly zero, or infinite on one side only."""
    either_nan = np.isnan(a) | np.isnan(e)
    zeros = ((a == 0) != (e == 0)) & ~either_nan
    if rules.dtype == "int":
        zeros[:] = False  # integers have no other reason to differ than their values
    else:
        precision = tolerances.PRECISION[rules.dtype]
        # Flushed, or rounded from a wider dtype.
        tiny = precision.smallest_normal * (1 if precision.flushed else precision.epsilon)
        at = np.flatnonzero(zeros)
        zeros[at] = np.maximum(np.abs(a[at].astype(np.longdouble)), np.abs(e[at].astype(np.longdouble))) >= tiny
        if rules.scale is not None:
            # Where something is added up it may cancel to 0 in one order and not in the other.
            zeros[at] &= ~(rules.scale.flat[at] > 0)
    infinities = (np.isinf(a) | np.isinf(e)) & ~equal & ~either_nan & ~zeros
    return {"nan": either_nan & ~equal, "zeros": zeros, "infinities": infinities}
