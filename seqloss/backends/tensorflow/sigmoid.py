"""TensorFlow: cross entropy of independent classes, and its pullback. The formulas are in ``seqloss.core.contract``."""

import tensorflow as tf

from seqloss.backends.tensorflow.ops import nan_unless
from seqloss.core.protocol import Array


def sigmoid_nll(logits: Array, labels: Array, pos_weight: Array | None) -> Array:
    x = _prepare(logits)
    zero = tf.zeros_like(x)
    # An entry without a loss becomes NaN at the end; until then it is 0, to keep NaN out of the derivatives of what
    # follows.
    bad = tf.math.is_nan(x)
    x = tf.where(bad, zero, x)
    against, along = 1 - labels, labels if pos_weight is None else pos_weight * labels
    # Infinite logits whose label has the factor 0 are replaced before the product: 0 times infinity is 0 here.
    one = against * _softplus(tf.where(tf.equal(against, 0) & tf.math.is_inf(x), zero, x))
    other = along * _softplus(tf.where(tf.equal(along, 0) & tf.math.is_inf(x), zero, -x))
    return nan_unless(~bad, one + other)


def sigmoid_pullback(
    cotangent: Array, logits: Array, labels: Array, pos_weight: Array | None, wrt_labels: bool
) -> tuple[Array, Array | None, Array | None]:
    x, g = _prepare(logits), cotangent
    zero = tf.zeros_like(x)
    # Only where it is not finite: elsewhere d/dcotangent is needed at cotangent 0 too.
    x, labels = (tf.where(tf.equal(g, 0) & ~tf.math.is_finite(a), zero, a) for a in (x, labels))
    if pos_weight is not None:
        pos_weight = tf.where(tf.equal(g, 0) & ~tf.math.is_finite(pos_weight), zero, pos_weight)
    up, down = _sigmoid(x), _sigmoid(-x)
    along = labels if pos_weight is None else pos_weight * labels
    to_logits = tf.cast(g * tf.where(tf.math.is_nan(x), x, (1 - labels) * up - along * down), logits.dtype)
    if not wrt_labels:
        return to_logits, None, None
    if pos_weight is None:
        return to_logits, -g * x, None
    tail = tf.math.log1p(tf.exp(tf.where(x >= 0, -x, x)))
    slope = tf.where(x >= 0, tf.ones_like(pos_weight), pos_weight)
    # The cotangent first: a product that overflows without it must not do so with a cotangent of 0.
    to_labels = g * (pos_weight - 1) * tail - g * slope * tf.where(tf.equal(slope, 0) & tf.math.is_inf(x), zero, x)
    asked = _softplus(tf.where(tf.equal(labels, 0) & tf.math.is_inf(x), zero, -x))
    return to_logits, to_labels, g * (labels * asked)


def _softplus(x: Array) -> Array:
    """log(1 + exp(x)). Both branches at 0 have the slope 1/2, because the sign is taken from a comparison."""
    return tf.where(x >= 0, x, tf.zeros_like(x)) + tf.math.log1p(tf.exp(tf.where(x >= 0, -x, x)))


def _sigmoid(x: Array) -> Array:
    e = tf.exp(tf.where(x >= 0, -x, x))
    return tf.where(x >= 0, tf.ones_like(e), e) / (1 + e)


def _prepare(logits: Array) -> Array:
    return logits if logits.dtype == tf.float64 else tf.cast(logits, tf.float32)
