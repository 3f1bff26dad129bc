"""What a number tells: its value, and how many of its digits are significant."""

from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from seqloss.core.errors import DTypeError, ShapeError
from seqloss.testing.comparison import sides
from seqloss.testing.tolerances import PRECISION

WRITTEN_DIGITS = 9
"""A float32 number is printed with at most so many digits; a float64 number has fewer once in ten million times."""


class Number(NamedTuple):
    """A loss: its value, what it is written in, and half the distance to its neighbours, relative to it."""

    value: float
    kind: str
    resolution: float

    @property
    def telling(self) -> bool:
        """Whether there are digits to compare: zero, NaN and infinity have none."""
        return bool(np.isfinite(self.value)) and self.value != 0


def number(name: str, x: Any) -> Number:
    """Read a loss, and find the narrowest precision that it can have come from.

    A Python float is often a float32 number by origin, or one that was read from a log with a few decimals. Both show
    in its digits.
    """
    read = sides.read(name, x)
    array, kind = read.values, read.dtype
    if array.size != 1:
        raise ShapeError(f"{name} has the shape {list(array.shape)}; expected one number, the reduced loss")
    if array.dtype.kind not in "fiu":
        raise DTypeError(f"{name} is of dtype {array.dtype}; expected a real number, the reduced loss")
    value = float(array.reshape(()))
    if not np.isfinite(value) or value == 0:
        return Number(value, kind if kind in PRECISION else "float64", 0.0)
    origins = [(dtype, PRECISION[dtype].epsilon / 2) for dtype in PRECISION if dtype == kind or _fits(value, dtype)]
    if isinstance(x, (int, float)):
        digits = Decimal(repr(float(x))).as_tuple()
        if len(digits.digits) <= WRITTEN_DIGITS and isinstance(digits.exponent, int):
            origins.append((f"{len(digits.digits)} digits", 0.5 * 10.0**digits.exponent / abs(value)))
    dtype, resolution = max(origins, key=lambda origin: origin[1])
    return Number(value, dtype, resolution)


def _fits(value: float, dtype: str) -> bool:
    bits = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}[dtype]
    scaled = float(np.frexp(value)[0]) * 2.0**bits
    return scaled == round(scaled)
