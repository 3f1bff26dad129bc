"""Array API: cross entropy of independent classes, and its pullback. The formulas are in the contract."""

from seqloss.backends.array_api import ops
from seqloss.core.protocol import Array


def sigmoid_nll(logits: Array, labels: Array, pos_weight: Array | None) -> Array:
    x = ops.astype(logits, ops.dtype(labels))
    xp = ops.namespace(x)
    tail = xp.log1p(xp.exp(-xp.abs(x)))
    against, along = 1.0 - labels, labels if pos_weight is None else pos_weight * labels
    nll = ops.where(against == 0.0, 0.0, against * (_above(x) + tail))
    nll = nll + ops.where(along == 0.0, 0.0, along * (_above(-x) + tail))
    return ops.where(xp.isnan(x), x, nll)


def sigmoid_pullback(
    cotangent: Array, logits: Array, labels: Array, pos_weight: Array | None, wrt_labels: bool
) -> tuple[Array, Array | None, Array | None]:
    x, g = ops.astype(logits, ops.dtype(labels)), cotangent
    xp = ops.namespace(x)
    e = xp.exp(-xp.abs(x))
    small, large, positive = e / (1.0 + e), 1.0 / (1.0 + e), x >= 0.0
    up, down = ops.where(positive, large, small), ops.where(positive, small, large)
    along = labels if pos_weight is None else pos_weight * labels
    unused = g == 0.0
    to_logits = ops.where(unused, 0.0, g * ((1.0 - labels) * up - along * down))
    to_logits = ops.astype(to_logits, ops.dtype(logits))
    if not wrt_labels:
        return to_logits, None, None
    if pos_weight is None:
        return to_logits, ops.where(unused, 0.0, -g * x), None
    tail, slope = xp.log1p(e), ops.where(positive, 1.0, pos_weight)
    # Multiply by the cotangent first, so that a small one prevents an overflow.
    to_labels = g * (pos_weight - 1.0) * tail - ops.where((slope == 0.0) & xp.isinf(x), 0.0, g * slope * x)
    asked = ops.where((labels == 0.0) & xp.isinf(x), 0.0, labels * (_above(-x) + tail))
    return to_logits, ops.where(unused, 0.0, to_labels), ops.where(unused, 0.0, g * asked)


def _above(x: Array) -> Array:
    xp = ops.namespace(x)
    return xp.maximum(x, xp.zeros_like(x))
