"""NumPy: cross entropy of independent classes, and its pullback. The formulas are in ``seqloss.core.contract``.

Both go through the numbers in pieces that stay in a core's cache, and in threads.
"""

from typing import Any

import numpy as np

from seqloss.backends.numpy.blocks import for_slices
from seqloss.backends.numpy.numbers import BITS, like, narrowed, plain_nan, rows_of, widened, zeros
from seqloss.core.protocol import Array


def sigmoid_nll(logits: Array, labels: Array, pos_weight: Array | None) -> Array:
    x, y, q = (_flat(a) for a in (logits, labels, pos_weight))
    nll = np.empty(y.shape, y.dtype)

    def forward(piece: slice) -> None:
        nll[piece] = _nll(_wide(x[piece], y.dtype), y[piece], None if q is None else q[piece])

    for_slices(forward, len(x))
    return nll.reshape(labels.shape)


def sigmoid_pullback(
    cotangent: Array, logits: Array, labels: Array, pos_weight: Array | None, wrt_labels: bool
) -> tuple[Array, Array | None, Array | None]:
    g, x, y, q = (_flat(a) for a in (cotangent, logits, labels, pos_weight))
    to_logits = zeros(x.shape, x.dtype)
    to_labels = zeros(y.shape, y.dtype) if wrt_labels else None
    to_pos_weight = zeros(y.shape, y.dtype) if wrt_labels and q is not None else None

    def backward(piece: slice) -> None:
        own = g[piece], _wide(x[piece], y.dtype), y[piece], None if q is None else q[piece]
        slope, *others = _slopes(*own, wrt_labels)
        to_logits[piece] = narrowed(plain_nan(slope) if x.dtype == BITS else slope, x.dtype)
        if to_labels is not None:
            to_labels[piece] = others[0]
        if to_pos_weight is not None:
            to_pos_weight[piece] = others[1]

    for_slices(backward, len(x))
    others = (None if a is None else a.reshape(labels.shape) for a in (to_labels, to_pos_weight))
    return like(to_logits, logits), *others


def _nll(x: Array, y: Array, q: Array | None) -> Array:
    tail = np.log1p(np.exp(-abs(x)))
    against, along = 1 - y, y if q is None else q * y
    costs = np.maximum(x, 0)
    costs += tail
    costs *= against
    tail += np.maximum(-x, 0)
    tail *= along
    nll = costs + tail
    if np.count_nonzero(np.isfinite(nll)) == len(nll):
        return nll
    # 0 times infinity is 0.
    nll = np.where(against == 0, x.dtype.type(0), costs) + np.where(along == 0, x.dtype.type(0), tail)
    return np.where(np.isnan(x), x, nll)


def _slopes(g: Array, x: Array, y: Array, q: Array | None, wrt_labels: bool) -> tuple[Array | None, ...]:
    """The gradients of logits, labels and pos_weight, or None."""
    idle, positive = g == 0, x >= 0
    e = np.exp(-abs(x))
    whole = 1 + e
    large, small = 1 / whole, e / whole
    to_logits = (1 - y) * np.where(positive, large, small)
    to_logits -= (y if q is None else q * y) * np.where(positive, small, large)
    to_logits *= g
    _zero_where(idle, to_logits)
    if not wrt_labels:
        return to_logits, None, None
    if q is None:
        return to_logits, _zero_where(idle, -g * x), None
    tail, slope, infinite = np.log1p(e), np.where(positive, x.dtype.type(1), q), np.isinf(x)
    # Multiply by the cotangent first, so that a small one prevents an overflow.
    to_labels = g * (q - 1) * tail - _zero_where((slope == 0) & infinite, g * slope * x)
    asked = _zero_where((y == 0) & infinite, y * (np.maximum(-x, 0) + tail))
    return to_logits, _zero_where(idle, to_labels), _zero_where(idle, g * asked)


def _zero_where(condition: Array, x: Array) -> Array:
    if np.count_nonzero(condition):
        x[condition] = 0
    return x


def _flat(x: Array | None) -> Any:
    return None if x is None else rows_of(x.reshape(-1, 1)).reshape(-1)


def _wide(x: Array, dtype: Any) -> Array:
    return widened(x).astype(dtype, copy=False)
