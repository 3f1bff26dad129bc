"""How much two results may differ, and why: the one table of bounds.

===========================  =========================  =============================================================
quantity                     bound                      reason
===========================  =========================  =============================================================
token loss, gradient entry   20 ULP up to a range of    ``z_j - max`` is rounded once, by at most half a unit of its
                             20, 80 ULP up to 80, then  last place; the exponential turns that into a relative error
                             the range itself, at       which grows with the range of the row's logits. The rest is
                             least 160, at most 745     a handful of roundings and sums of positive numbers. Beyond
                                                        745 all exponentials are 0. In float32 executors may flush
                                                        those below exp(-87), which a sum then lacks.
log-sum-exp                  8 ULP, at the scale of     the largest logit, or the logarithm of the number of classes,
                             the larger summand         is added to what is as good as a token loss
mean over the prior (unl)    the token bound            its summands are not negative, so that nothing cancels
behind a softcap             6 ULP more for each unit   what tanh is off by moves a logit, and so the exponential
                             of the largest capped      relative to its size; the derivative of the cap is an
                             logit; entries of the      exponential of twice the logit over the cap
                             gradient 2 ULP more for
                             each cap in the logit
two computed results         twice the token bound      neither is the truth: each may be off by its bound, to
                                                        either side
reduced loss, dweights       the token bound, at the    a sum of numbers of both signs has the error of its largest
                             scale of the summands      summands, whatever it cancels to
recorded from a program      twice the token bound, at  ``log(sum_j exp(z_j - max)) - (z_y - max)`` has the
with other formulas          the scale of the summands  summand 1, and ``softmax_y - 1`` is a difference of it: for
                             and of 1, weighted alike   confident tokens these formulas of most frameworks keep few
                                                        digits of a loss, and none of one below half a unit of 1
exact mode                   0.5 ULP                    computed in float64 and rounded once; the hair beyond
                                                        one half is the error of float64
quotient of wide sums        0.5 ULP                    the same hair, and what twice the digits of a dtype keep of
                                                        the summands
half-precision gradient      1 ULP of that dtype        computed in float32 and rounded once; next to a rounding
                                                        boundary the float32 error decides
below the smallest normal    zero, or within one        executors flush subnormals or do not
                             smallest normal
===========================  =========================  =============================================================

The unit in the last place (ULP) is that of the expected value, rounded to the dtype of the result.
"""

from typing import Any, NamedTuple

import numpy as np

Array = Any


class Precision(NamedTuple):
    """The numbers of a float dtype that tolerances are made of."""

    epsilon: float
    smallest_normal: float
    flushed: bool
    """Whether executors may flush subnormal results to zero. float16 subnormals are kept by all."""


PRECISION = {
    "float64": Precision(2.0**-52, 2.0**-1022, True),
    "float32": Precision(2.0**-23, 2.0**-126, True),
    "float16": Precision(2.0**-10, 2.0**-14, False),
    "bfloat16": Precision(2.0**-7, 2.0**-126, True),
}

TIGHT_RANGE, WIDE_RANGE, EXP_RANGE = 20.0, 80.0, 745.0
TIGHT_ULPS, WIDE_ULPS = 20.0, 80.0
PAIR_ULPS = 2 * TIGHT_ULPS
LSE_ULPS = 8.0
CAP_ULPS, CAP_SLOPE_ULPS = 6.0, 2.0
HALF_ULPS = 1.0
EXACT_ULPS = 0.5 + 2.0**-26


def token_bound(logits: Array) -> Array:
    """The bound in ULP for each token, from the range of its finite logits.

    It is 20 up to a range of 20 and 80 up to a range of 80; beyond it is the range itself, at least 160 and at most
    745.

    Parameters
    ----------
    logits : array of shape [..., classes]
        The logits as NumPy's floats.

    Returns
    -------
    array of shape [...]
        The bound of each token loss, in units in the last place of the dtype that is computed in. For the gradient of
        logits give it one more axis of size 1.

    See Also
    --------
    compare : Takes it as its bound.

    Examples
    --------
    >>> from seqloss.testing import token_bound
    >>> print(token_bound([[0.0, 1.0], [0.0, 50.0], [0.0, 300.0]]))
    [ 20.  80. 300.]
    """
    z = np.asarray(logits, np.float64)
    finite = np.isfinite(z)
    highest = np.where(finite, z, -np.inf).max(-1, initial=-np.inf)
    lowest = np.where(finite, z, np.inf).min(-1, initial=np.inf)
    span = highest - lowest
    beyond = np.clip(span, 2 * WIDE_RANGE, EXP_RANGE)
    return np.where(span <= TIGHT_RANGE, TIGHT_ULPS, np.where(span <= WIDE_RANGE, WIDE_ULPS, beyond))


def capped_bound(logits: Array, softcap: float | None) -> tuple[Array, Array]:
    """The bound in ULP for each token [...], and for the gradient [..., classes], of logits behind a cap."""
    x = np.asarray(logits, np.float64)
    if softcap is None:
        bound = token_bound(x)
        return bound, np.broadcast_to(bound[..., None], x.shape)
    with np.errstate(all="ignore"):
        z = np.where(np.isfinite(x), softcap * np.tanh(x / softcap), x)
    finite = np.where(np.isfinite(x), np.abs(x), 0)
    bound = token_bound(z) + CAP_ULPS * np.minimum(finite, softcap).max(-1, initial=0)
    return bound, bound[..., None] + CAP_SLOPE_ULPS * finite / softcap


def unit(size: Array, dtype: str) -> Array:
    """The unit in the last place of numbers of this size."""
    precision = PRECISION[dtype]
    size = np.abs(np.asarray(size, np.longdouble))
    size = np.maximum(np.where(np.isfinite(size), size, 0), precision.smallest_normal)
    _, exponent = np.frexp(size)
    return np.ldexp(np.longdouble(precision.epsilon), exponent - 1)


def ulps(actual: Array, expected: Array, dtype: str, scale: Array = 0.0) -> Array:
    """The distance in units of the last place of ``expected`` (of ``scale``, if that is larger).

    NaN agrees with NaN and an infinity with itself; any other mismatch of these is an infinite distance. Below the
    smallest normal number any result within one smallest normal agrees.
    """
    a, e = np.asarray(actual, np.longdouble), np.asarray(expected, np.longdouble)
    size = np.maximum(np.abs(e), np.where(np.isfinite(scale), scale, 0))
    return _distance(a, e, unit(size, dtype), dtype)


def excess(actual: Array, expected: Array, dtype: str, bound: Array, scale: Array = 0.0, compute: str = "") -> Array:
    """The distance as a fraction of what is allowed: above 1 the two disagree.

    Allowed are ``bound`` units of the dtype that was computed in, and for a half-precision result its one rounding.
    """
    compute = compute or dtype
    a, e = np.asarray(actual, np.longdouble), np.asarray(expected, np.longdouble)
    size = np.maximum(np.abs(e), np.where(np.isfinite(scale), scale, 0))
    allowed = bound * unit(size, compute) + (HALF_ULPS * unit(e, dtype) if dtype != compute else 0)
    return _distance(a, e, allowed, dtype)


def _distance(a: Array, e: Array, allowed: Array, dtype: str) -> Array:
    precision = PRECISION[dtype]
    with np.errstate(all="ignore"):
        difference = np.abs(a - e)
        distance = difference / allowed
    same = (a == e) | (np.isnan(a) & np.isnan(e))
    if precision.flushed:
        same |= (np.abs(e) < precision.smallest_normal) & (difference <= precision.smallest_normal)
    with np.errstate(over="ignore"):  # as a fraction of next to nothing
        return np.where(same, 0.0, np.where(np.isfinite(distance), distance, np.inf)).astype(np.float64)
