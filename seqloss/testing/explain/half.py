"""Sums along the last axis as programs in half precision make them."""

import math
from typing import Any

import numpy as np

Array = Any

GRAIN = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
"""The largest relative error of one rounding."""


def rounded(x: Array, dtype: str) -> Array:
    """The nearest number of the dtype, ties to even, as float64. Overflow and subnormals are those of the dtype."""
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        if dtype == "float16":
            return x.astype(np.float16).astype(np.float64)
        # bfloat16 has 8 bits of mantissa; its range is that of float32, which no loss leaves.
        mantissa, exponent = np.frexp(x)
        return np.ldexp(np.rint(mantissa * 256), exponent - 8)


def once(x: Array, dtype: str) -> Array:
    """The sum rounded once at its end, as frameworks do whose accumulator is wide."""
    return rounded(x.sum(-1), dtype)


def one_by_one(x: Array, dtype: str) -> Array:
    """The running total rounded after every summand, as in a half-precision variable."""
    x = rounded(x, dtype)
    if not x.shape[-1]:
        return np.zeros(x.shape[:-1])
    if dtype == "float16":
        with np.errstate(all="ignore"):
            return np.add.accumulate(x.astype(np.float16), axis=-1)[..., -1].astype(np.float64)
    totals = [_running(row) for row in x.reshape(-1, x.shape[-1]).tolist()]
    return np.asarray(totals).reshape(x.shape[:-1])


def _running(row: list[float]) -> float:
    """One by one in plain floats, which are faster here than arrays of one element."""
    total = 0.0
    for value in row:
        total += value
        if not math.isfinite(total):
            return math.nan if math.isnan(total) else total
        mantissa, exponent = math.frexp(total)
        total = math.ldexp(round(mantissa * 256), exponent - 8)
    return total
