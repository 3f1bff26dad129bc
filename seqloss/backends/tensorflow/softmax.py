"""TensorFlow: cross entropy against soft labels, and its pullback. The formulas stand in ``seqloss.core.protocol``.

Both work on [tokens, classes], so that an unknown rank is no obstacle, and both may be differentiated.
"""

from typing import Any

import tensorflow as tf

from seqloss.backends.tensorflow.ops import nan_unless
from seqloss.core.protocol import Array, LabelStatistics


def softmax_nll(logits: Array, labels: Array) -> LabelStatistics:
    z, y = _prepare(logits), _rows(labels)
    # A row without a loss is NaN in the end; zeros meanwhile keep NaN out of the derivatives of what follows.
    good = tf.math.is_finite(tf.reduce_max(z, -1)) & ~tf.reduce_any(tf.math.is_nan(z), -1)
    z = tf.where(good[:, None], z, tf.zeros_like(z))
    index, at = _highest(z)
    shift = tf.gather(z, index, batch_dims=1)
    rest = tf.reduce_sum(tf.where(at, tf.zeros_like(z), tf.exp(z - shift[:, None])), -1)
    # A class that cannot happen and is not asked for costs nothing: 0 times infinity is 0 here.
    possible = tf.where(tf.equal(y, 0) & tf.math.is_inf(shift[:, None] - z), shift[:, None], z)
    nll = tf.reduce_sum(y * ((shift[:, None] - possible) + tf.math.log1p(rest)[:, None]), -1)
    statistics = (nan_unless(good, nll), shift, nan_unless(good, rest))
    return LabelStatistics(*(_as_tokens(x, logits) for x in statistics))


def softmax_nll_pullback(
    cotangent: Array, logits: Array, labels: Array, mass: Array, statistics: LabelStatistics, wrt_labels: bool
) -> tuple[Array, Array | None]:
    z, y = _prepare(logits), _rows(labels)
    columns = (cotangent, mass, statistics.shift, statistics.rest)
    g, mass, shift, rest = (tf.reshape(x, [-1, 1]) for x in columns)
    # Only rows that are not finite: for the others d/dcotangent counts at cotangent 0 too.
    replaced = tf.equal(g, 0) & ~tf.math.is_finite(shift + rest)
    z, shift, rest = (tf.where(replaced, tf.zeros_like(x), x) for x in (z, shift, rest))
    y, mass = (tf.where(tf.equal(g, 0) & ~tf.math.is_finite(x), tf.zeros_like(x), x) for x in (y, mass))
    _, at = _highest(z)
    elsewhere = mass * (tf.exp(z - shift) / (1 + rest)) - y
    to_logits = g * tf.where(at, (mass - y) - mass * (rest / (1 + rest)), elsewhere)
    to_logits = _like(tf.cast(to_logits, logits.dtype), logits)
    if not wrt_labels:
        return to_logits, None
    # A class that cannot happen has an infinite cost, which 0 must remove as well.
    possible = tf.where(tf.equal(g, 0) & tf.math.is_inf(shift - z), shift, z)
    return to_logits, _like(g * ((shift - possible) + tf.math.log1p(rest)), labels)


def differentiable_softmax_nll(logits: Array, labels: Array, mass: Array) -> Array:
    """The kernel as an operation that TensorFlow differentiates with its pullback."""

    @tf.custom_gradient
    def operation(logits: Array, labels: Array, mass: Array) -> tuple[Array, Any]:
        statistics = softmax_nll(logits, labels)

        def backward(cotangent: Array) -> tuple[Array, Array | None, Array]:
            return *softmax_nll_pullback(cotangent, logits, labels, mass, statistics, True), tf.zeros_like(mass)

        return statistics.nll, backward

    return operation(logits, labels, mass)


def _highest(z: Array) -> tuple[Array, Array]:
    """The place of the highest logit of each row, and where the class axis is there."""
    index = tf.argmax(z, -1, output_type=tf.int32)
    return index, tf.equal(tf.range(tf.shape(z)[-1]), index[:, None])


def _as_tokens(x: Array, logits: Array) -> Array:
    return tf.ensure_shape(tf.reshape(x, tf.shape(logits)[:-1]), logits.shape[:-1])


def _like(x: Array, other: Array) -> Array:
    return tf.ensure_shape(tf.reshape(x, tf.shape(other)), other.shape)


def _rows(x: Array) -> Array:
    return tf.reshape(x, [-1, tf.shape(x)[-1]])


def _prepare(logits: Array) -> Array:
    return _rows(logits if logits.dtype == tf.float64 else tf.cast(logits, tf.float32))
