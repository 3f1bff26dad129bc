"""NumPy: cross entropy of independent classes, and its pullback. The formulas stand in ``seqloss.core.protocol``."""

import numpy as np

from seqloss.core.protocol import Array


def sigmoid_nll(logits: Array, labels: Array, pos_weight: Array | None) -> Array:
    with np.errstate(all="ignore"):
        x = _prepare(logits)
        zero = x.dtype.type(0)
        tail = np.log1p(np.exp(-np.abs(x)))
        against, along = 1 - labels, labels if pos_weight is None else pos_weight * labels
        nll = np.where(against == 0, zero, against * (np.maximum(x, 0) + tail))
        nll += np.where(along == 0, zero, along * (np.maximum(-x, 0) + tail))
        return np.where(np.isnan(x), x, nll)


def sigmoid_nll_pullback(
    cotangent: Array, logits: Array, labels: Array, pos_weight: Array | None, wrt_labels: bool
) -> tuple[Array, Array | None, Array | None]:
    with np.errstate(all="ignore"):
        x, g = _prepare(logits), cotangent
        zero = x.dtype.type(0)
        e = np.exp(-np.abs(x))
        small, large = e / (1 + e), 1 / (1 + e)
        up, down = np.where(x >= 0, large, small), np.where(x >= 0, small, large)
        along = labels if pos_weight is None else pos_weight * labels
        to_logits = np.where(g == 0, zero, g * ((1 - labels) * up - along * down)).astype(logits.dtype, copy=False)
        if not wrt_labels:
            return to_logits, None, None
        if pos_weight is None:
            return to_logits, np.where(g == 0, zero, -g * x), None
        tail, slope = np.log1p(e), np.where(x >= 0, 1, pos_weight)
        # The cotangent first, which may bring back what overflows without it.
        to_labels = g * (pos_weight - 1) * tail - np.where((slope == 0) & np.isinf(x), zero, g * slope * x)
        asked = np.where((labels == 0) & np.isinf(x), zero, labels * (np.maximum(-x, 0) + tail))
        return to_logits, np.where(g == 0, zero, to_labels), np.where(g == 0, zero, g * asked)


def differentiable_sigmoid_nll(logits: Array, labels: Array, pos_weight: Array | None) -> Array:
    """NumPy differentiates nothing: this is the forward kernel."""
    return sigmoid_nll(logits, labels, pos_weight)[()]


def _prepare(logits: Array) -> Array:
    return logits if logits.dtype == np.float64 else logits.astype(np.float32, copy=False)
