"""NumPy: cross entropy against soft labels, and its pullback. The formulas stand in ``seqloss.core.protocol``."""

import numpy as np

from seqloss.core.protocol import Array, LabelStatistics


def softmax_nll(logits: Array, labels: Array) -> LabelStatistics:
    with np.errstate(all="ignore"):
        z, index = _prepare(logits)
        shift = np.take_along_axis(z, index, axis=-1)
        e = np.exp(z - shift)
        np.put_along_axis(e, index, 0, axis=-1)
        rest = e.sum(axis=-1, keepdims=True)
        costs = (shift - z) + np.log1p(rest)
        # A class that cannot happen and is not asked for costs nothing: 0 times infinity is 0 here.
        nll = np.where(labels == 0, z.dtype.type(0), labels * costs).sum(axis=-1)
    shift, rest = shift[..., 0], rest[..., 0]
    good = np.isfinite(shift + rest)
    nan = z.dtype.type(np.nan)
    return LabelStatistics(np.where(good, nll, nan), shift, np.where(good, rest, nan))


def softmax_nll_pullback(
    cotangent: Array, logits: Array, labels: Array, mass: Array, statistics: LabelStatistics, wrt_labels: bool
) -> tuple[Array, Array | None]:
    with np.errstate(all="ignore"):
        z, index = _prepare(logits)
        g, mass, shift, rest = (x[..., None] for x in (cotangent, mass, statistics.shift, statistics.rest))
        zero = z.dtype.type(0)
        slope = mass * (np.exp(z - shift) / (1 + rest)) - labels
        at_highest = (mass - np.take_along_axis(labels, index, axis=-1)) - mass * (rest / (1 + rest))
        np.put_along_axis(slope, index, at_highest, axis=-1)
        to_logits = np.where(g == 0, zero, g * slope).astype(logits.dtype, copy=False)
        if not wrt_labels:
            return to_logits, None
        return to_logits, np.where(g == 0, zero, g * ((shift - z) + np.log1p(rest)))


def differentiable_softmax_nll(logits: Array, labels: Array, mass: Array) -> Array:
    """NumPy differentiates nothing: this is the forward kernel."""
    return softmax_nll(logits, labels).nll[()]


def _prepare(logits: Array) -> tuple[Array, Array]:
    """Logits in the compute dtype, and the place of the highest, [..., 1]."""
    z = logits if logits.dtype == np.float64 else logits.astype(np.float32, copy=False)
    return z, np.expand_dims(z.argmax(axis=-1), -1)
