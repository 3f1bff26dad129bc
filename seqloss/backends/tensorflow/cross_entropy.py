"""TensorFlow: the cross-entropy kernel and its pullback. The formulas stand in ``seqloss.core.protocol``.

Both work on [tokens, classes], so that an unknown rank is no obstacle. Both may be differentiated: a tape outside of
``tf.vectorized_map`` drops custom gradients, and second derivatives go through the operations written here.
"""

from typing import Any

import tensorflow as tf

from seqloss.core.protocol import Array, TokenStatistics


def token_nll(logits: Array, targets: Array, active: Array | None, dtype: str) -> TokenStatistics:
    z, index, valid = _prepare(logits, targets, dtype)
    highest = tf.stop_gradient(tf.reduce_max(z, -1))
    # A row without a loss is NaN in the end; zeros meanwhile keep NaN out of the derivatives of what follows.
    good = valid & tf.math.is_finite(highest)
    z = tf.where(good[:, None], z, tf.zeros_like(z))
    t = tf.gather(z, index, batch_dims=1)
    # Where the target is the largest, its own logit is the pivot, with its derivative; elsewhere a constant is.
    shift = tf.where(t == highest, t, highest)
    e = tf.exp(z - shift[:, None])
    rest = tf.reduce_sum(tf.where(_at(index, z), tf.zeros_like(e), e), -1)
    gap = t - shift
    excess = rest + tf.math.expm1(gap)
    nll = tf.math.log1p(excess) - gap
    nan = tf.constant(float("nan"), z.dtype)
    nll = tf.where(good, nll, nan)
    if active is not None:
        nll = tf.where(tf.reshape(active, [-1]), nll, tf.zeros_like(nll))
    statistics = (nll, shift, tf.where(good, excess + 1, nan))
    return TokenStatistics(*(_as_tokens(x, targets) for x in statistics))


def token_nll_pullback(
    cotangent: Array, logits: Array, targets: Array, active: Array | None, statistics: TokenStatistics
) -> Array:
    z, index, _ = _prepare(logits, targets, statistics.nll.dtype)
    cotangent, nll, shift, total = (tf.reshape(x, [-1]) for x in (cotangent, *statistics))
    if active is not None:
        cotangent = tf.where(tf.reshape(active, [-1]), cotangent, tf.zeros_like(cotangent))
    # Only rows that are not finite: for the others d/dcotangent counts at cotangent 0 too.
    replaced = (cotangent == 0) & ~tf.math.is_finite(nll + total)
    z = tf.where(replaced[:, None], tf.zeros_like(z), z)
    nll, shift, total = (tf.where(replaced, tf.ones_like(x), x) for x in (nll, shift, total))
    slope = tf.exp(z - shift[:, None]) / total[:, None]
    at_target = tf.where(tf.math.is_nan(total), total, tf.math.expm1(-nll))
    slope = tf.where(_at(index, z), at_target[:, None], slope)
    gradient = tf.cast(cotangent[:, None] * slope, logits.dtype)
    return tf.ensure_shape(tf.reshape(gradient, tf.shape(logits)), logits.shape)


def differentiable_token_nll(logits: Array, targets: Array, active: Array | None) -> Array:
    """The kernel as an operation that TensorFlow differentiates with its pullback."""

    @tf.custom_gradient
    def operation(logits: Array) -> tuple[Array, Any]:
        statistics = token_nll(logits, targets, active, "float64" if logits.dtype == tf.float64 else "float32")

        def backward(cotangent: Array) -> Array:
            return token_nll_pullback(cotangent, logits, targets, active, statistics)

        return statistics.nll, backward

    return operation(logits)


def _as_tokens(x: Array, targets: Array) -> Array:
    return tf.ensure_shape(tf.reshape(x, tf.shape(targets)), targets.shape)


def _at(index: Array, z: Array) -> Array:
    """Where the class axis is at the index."""
    return tf.range(tf.shape(z)[-1]) == index[:, None]


def _prepare(logits: Array, targets: Array, dtype: Any) -> tuple[Array, Array, Array]:
    """Logits [tokens, classes] in the compute dtype, the label as an index that is always legal, whether it was."""
    classes = tf.shape(logits)[-1]
    z = tf.reshape(logits, [-1, classes])
    z = tf.cast(z, dtype)
    # Wide before comparing: a constant outside the range of int8 is wrapped into it.
    y = tf.reshape(tf.cast(targets, tf.int64), [-1])
    valid = (y >= 0) & (y < tf.cast(classes, tf.int64))
    return z, tf.cast(tf.where(valid, y, tf.zeros_like(y)), tf.int32), valid
