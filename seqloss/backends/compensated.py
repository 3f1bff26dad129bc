"""Error-free arithmetic: what an operation cuts off, as a second number. For dtypes that have no wider one.

Only the operators of the arrays are used. The products of halves are exact, so it makes no difference whether a
compiler fuses them with the additions after them. ``a * b`` itself, which is used elsewhere too, must not be fused; the
tests of ``wide_sum`` check that the compilers of the frameworks do not.

References
----------
T. J. Dekker, "A floating-point technique for extending the available precision", 1971; D. E. Knuth, "The Art of
Computer Programming", volume 2.
"""

from seqloss.core.protocol import Array

_SPLITTERS = {"float32": 2.0**12 + 1, "float64": 2.0**27 + 1}


def difference(a: Array, b: Array) -> tuple[Array, Array]:
    """``a - b`` rounded, and what was cut off."""
    d = a - b
    back = d - a
    return d, (a - (d - back)) - (b + back)


def product(a: Array, b: Array, dtype: str) -> tuple[Array, Array]:
    """``a * b`` rounded, and what was cut off. Beyond 2**100 (2**990 in float64) the second may be NaN."""
    p = a * b
    a_high, a_low = _halves(a, dtype)
    b_high, b_low = _halves(b, dtype)
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(x: Array, dtype: str) -> tuple[Array, Array]:
    """Two numbers of half the digits, whose sum is x."""
    scaled = _SPLITTERS[dtype] * x
    high = scaled - (scaled - x)
    return high, x - high
