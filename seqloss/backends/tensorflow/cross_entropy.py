"""TensorFlow: the cross-entropy kernel and its pullback. The formulas stand in ``seqloss.core.protocol``.

Both work on [tokens, classes], so that an unknown rank is no obstacle. Both may be differentiated: a tape outside of
``tf.vectorized_map`` drops custom gradients, and second derivatives go through the operations written here.

What is fast depends on who runs the graph. The executor of TensorFlow runs one operation after the other, so that few
of them may be as large as the logits, and it puts a number for each row into an array in no time. XLA fuses what
surrounds a reduction into it, but a loop along the reduced axis, above all one with a mask, is slow.
"""

from typing import Any

import tensorflow as tf

from seqloss.backends.tensorflow.ops import nan_unless
from seqloss.backends.tensorflow.rows import WORTH_STRIPS, exp_of_difference, put, rest_of_strips, sum_without
from seqloss.core.protocol import SMALLEST_ACTIVE, Array, TokenStatistics


def token_nll(logits: Array, targets: Array, active: Array | None, dtype: str) -> TokenStatistics:
    compiled = _is_compiled()
    z, index, legal = _prepare(logits, targets, dtype)
    highest = tf.stop_gradient(tf.reduce_max(z, -1))
    # A row without a loss is NaN in the end; zeros meanwhile keep NaN out of the derivatives of what follows.
    good = legal & tf.math.is_finite(highest)
    z = _kept(z, good, compiled)
    t = tf.gather(z, index, batch_dims=1)
    # Where the target is the largest, its own logit is the pivot, with its derivative; elsewhere a constant is.
    shift = tf.where(tf.equal(t, highest), t, highest)
    rest = _rest(z, index, shift, compiled)
    gap = t - shift
    excess = rest + tf.math.expm1(gap)
    nll = tf.math.log1p(excess) - gap
    if active is not None:
        counts = tf.reshape(active, [-1])
        nll, good = tf.where(counts, nll, tf.zeros_like(nll)), good | ~counts
    statistics = (nan_unless(good, nll), shift, nan_unless(good, excess + 1))
    return TokenStatistics(*(_as_tokens(x, targets) for x in statistics))


def token_nll_pullback(
    cotangent: Array, logits: Array, targets: Array, active: Array | None, statistics: TokenStatistics
) -> Array:
    compiled = _is_compiled()
    z, index, _ = _prepare(logits, targets, statistics.nll.dtype)
    cotangent, nll, shift, total = (tf.reshape(x, [-1]) for x in (cotangent, *statistics))
    # Only rows that are not finite: for the others d/dcotangent counts at cotangent 0 too.
    replaced = tf.equal(cotangent, 0) & ~tf.math.is_finite(nll + total)
    if active is not None:
        skipped = ~tf.reshape(active, [-1])
        cotangent, replaced = tf.where(skipped, tf.zeros_like(cotangent), cotangent), replaced | skipped
    z = _kept(z, ~replaced, compiled)
    nll, shift, total = (tf.where(replaced, tf.ones_like(x), x) for x in (nll, shift, total))
    at_target = cotangent * tf.where(tf.math.is_nan(total), total, tf.math.expm1(-nll))
    gradient = exp_of_difference(z, shift[:, None], compiled) * (cotangent / total)[:, None]
    gradient = _narrowed(put(gradient, index, at_target), logits.dtype)
    return tf.ensure_shape(tf.reshape(gradient, tf.shape(logits)), logits.shape)


def indices(logits: Array, targets: Array) -> tuple[Array, Array]:
    # Wide before comparing: a constant outside the range of int8 is wrapped into it.
    y = tf.cast(targets, tf.int64)
    legal = (y >= 0) & (y < tf.cast(tf.shape(logits)[-1], tf.int64))
    return tf.cast(tf.where(legal, y, tf.zeros_like(y)), tf.int32), legal


def differentiable_token_nll(logits: Array, targets: Array, active: Array | None) -> Array:
    """The kernel as an operation that TensorFlow differentiates with its pullback."""

    @tf.custom_gradient
    def operation(logits: Array) -> tuple[Array, Any]:
        statistics = token_nll(logits, targets, active, "float64" if logits.dtype == tf.float64 else "float32")

        def backward(cotangent: Array) -> Array:
            return token_nll_pullback(cotangent, logits, targets, active, statistics)

        return statistics.nll, backward

    return operation(logits)


def _rest(z: Array, index: Array, shift: Array, compiled: bool) -> Array:
    """The sum of ``exp(z - shift)`` over all classes but the one at the index."""
    classes = z.shape.as_list()[-1]  # where TensorFlow behaves as version 1, an entry of a shape is no number
    if compiled and classes is not None and classes >= WORTH_STRIPS:
        return rest_of_strips(z, index, shift[:, None])
    if compiled:
        return sum_without(z, tf.range(tf.shape(z)[-1]), index, shift[:, None])
    e = tf.exp(z - shift[:, None])
    return tf.reduce_sum(put(e, index, tf.zeros_like(shift)), -1)


def _kept(z: Array, rows: Array, compiled: bool) -> Array:
    """The rows that are wanted, and zeros in the place of others, whatever they hold."""
    if compiled:
        return tf.where(rows[:, None], z, tf.zeros_like(z))
    return tf.math.multiply_no_nan(z, tf.cast(rows, z.dtype)[:, None])


def _narrowed(x: Array, dtype: Any) -> Array:
    """Numbers in the dtype of the logits; those of exact mode are rounded once, as the protocol has it."""
    if x.dtype == dtype or x.dtype == tf.float32:
        return tf.cast(x, dtype)
    x = tf.where(tf.abs(x) < SMALLEST_ACTIVE, tf.zeros_like(x), x)
    if dtype != tf.float32:
        bits = tf.bitcast(x, tf.int64)
        cut = tf.constant((1 << 29) - 1, tf.int64)
        odd = tf.where(tf.equal(tf.bitwise.bitwise_and(bits, cut), 0), tf.zeros_like(bits), cut + 1)
        x = tf.bitcast(tf.bitwise.bitwise_or(bits - tf.bitwise.bitwise_and(bits, cut), odd), tf.float64)
    return tf.cast(tf.cast(x, tf.float32), dtype)


def _is_compiled() -> bool:
    """Whether what is being traced is for XLA. Only ``jit_compile=True`` is seen, and only speed depends on it."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        context = graph._get_control_flow_context()
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False


def _as_tokens(x: Array, targets: Array) -> Array:
    return tf.ensure_shape(tf.reshape(x, tf.shape(targets)), targets.shape)


def _prepare(logits: Array, targets: Array, dtype: Any) -> tuple[Array, Array, Array]:
    """Logits [tokens, classes] in the compute dtype, the label as an index that is always legal, whether it was."""
    classes = tf.shape(logits)[-1]
    z = tf.reshape(logits, [-1, classes])
    if logits.shape.rank is not None:
        z = tf.ensure_shape(z, [None, logits.shape[-1]])
    return tf.cast(z, dtype), *indices(z, tf.reshape(targets, [-1]))
