"""TensorFlow: the statistics of tokens and their pullback. The formulas are in ``seqloss.core.contract``.

Both work on [tokens, classes], so that an unknown rank is no obstacle. Both may be differentiated: a tape outside of
``tf.vectorized_map`` drops custom gradients (TensorFlow 2.21), and second derivatives go through the operations written
here.

With the pivot ``p``, the largest logit of a row, ``saved`` holds ``p``; what the others add up to, the sum of
``exp(z_j - p)`` over all classes but the label, NaN where the gradient row is to be NaN; and ``exp(t - p)``.
"""

import tensorflow as tf

from seqloss.backends.tensorflow import distribution
from seqloss.backends.tensorflow.blocks import (
    as_rows,
    filled,
    idle_rows,
    is_compiled,
    kept,
    like,
    put,
    rest,
    without,
)
from seqloss.backends.tensorflow.numbers import capped, exp_of_difference, rounded, slope_of_cap
from seqloss.backends.tensorflow.ops import nan_unless
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array

_FARTHEST = 700.0
"""The exponential of its negative is a normal number in float64."""


def indices(logits: Array, targets: Array) -> tuple[Array, Array]:
    # Cast to a wide dtype before comparing: a constant outside the range of int8 would wrap around.
    y = tf.cast(targets, tf.int64)
    legal = (y >= 0) & (y < tf.cast(tf.shape(logits)[-1], tf.int64))
    return tf.cast(tf.where(legal, y, tf.zeros_like(y)), tf.int32), legal


def is_highest(logits: Array, targets: Array) -> Array:
    index, legal = indices(logits, targets)
    # The result of argmax for NaN is not documented (TensorFlow 2.21); the highest is NaN then.
    has_number = ~tf.math.is_nan(tf.reduce_max(logits, -1))
    return legal & has_number & tf.equal(tf.argmax(logits, -1, tf.int32), index)


def token_statistics(
    logits: Array, targets: Array, active: Array | None, prior: Array | None, spec: Spec
) -> Statistics:
    compiled = is_compiled()
    x, index, legal = _prepare(logits, targets, spec)
    z = capped(x, spec.softcap, compiled)
    weigh = _weighed_in_any_order if z.dtype == tf.float64 else _weighed
    good, pivot, gap, others = weigh(z, index, tf.gather(z, index, batch_dims=1), legal, compiled)
    spread = tf.math.log1p(others + tf.math.expm1(gap))
    unl = mass = None
    if spec.unl:
        mean, mass = distribution.mean_below(kept(z, good, compiled), pivot, prior, compiled)
        unl = tf.where(mass > 0, mean + spread, tf.zeros_like(spread))
    values = [spread - gap, pivot + spread if spec.lse else None, unl, others]
    if active is not None:
        counts = tf.reshape(active, [-1])
        values = [None if x is None else tf.where(counts, x, tf.zeros_like(x)) for x in values]
        good |= ~counts
    nll, lse, unl, others = (None if x is None else like(nan_unless(good, x), targets) for x in values)
    mass = None if mass is None else like(mass, targets)
    return Statistics(nll, lse, unl, mass, (like(pivot, targets), others, like(tf.exp(gap), targets)))


def token_pullback(
    cotangents: Cotangents,
    logits: Array,
    targets: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
) -> Array:
    if not any(x is not None for x in cotangents):
        return tf.zeros_like(logits)
    compiled = is_compiled()
    x, index, _ = _prepare(logits, targets, spec)
    idle, skipped = idle_rows(cotangents, active)
    # Only rows that are not finite: for the others the derivative of the gradient is needed at cotangent 0 too.
    replaced = idle & ~tf.math.is_finite(tf.reshape(statistics.nll + statistics.saved[1], [-1]))
    replaced = replaced if skipped is None else replaced | skipped
    x = kept(x, ~replaced, compiled)
    pivot, others, own = (filled(x, replaced, 1.0) for x in statistics.saved)
    a, b, c = (None if x is None else filled(x, skipped, 0.0) for x in cotangents)
    z, whole, share = capped(x, spec.softcap, compiled), others + own, None
    if c is not None:
        c, share = distribution.shares(c, filled(statistics.mass, replaced, 1.0))
    toward = [] if a is None else [a / whole]
    away = [x / whole for x in (b, c) if x is not None]
    gradient = exp_of_difference(z, pivot[:, None], compiled) * tf.add_n(toward + away)[:, None]
    at_label = tf.add_n([-x * others for x in toward] + [x * own for x in away])
    if share is not None:
        gradient = distribution.without(gradient, z, share, prior)
        at_label -= share * distribution.prior_at(index, tf.gather(z, index, batch_dims=1), prior)
    gradient = put(gradient, index, at_label)
    if spec.softcap is not None:
        gradient *= slope_of_cap(x, spec.softcap, compiled)
    return like(rounded(gradient, logits.dtype), logits)


def _prepare(logits: Array, targets: Array, spec: Spec) -> tuple[Array, Array, Array]:
    """Logits [tokens, classes] in the compute dtype, the label as an index that is always legal, whether it was."""
    z = as_rows(logits)
    return tf.cast(z, spec.dtype), *indices(z, tf.reshape(targets, [-1]))


def _weighed(z: Array, index: Array, t: Array, legal: Array, compiled: bool) -> tuple[Array, ...]:
    """Which rows are good, their pivots, how far each label is above that (at most 0), and the sum of the others.

    A row that is not good becomes NaN at the end; until then it holds zeros, to keep NaN out of the derivatives.
    """
    highest = tf.stop_gradient(tf.reduce_max(z, -1))
    good = legal & tf.math.is_finite(highest)
    t, highest = (tf.where(good, x, tf.zeros_like(x)) for x in (t, highest))
    # Where the label is the highest, its own logit is the pivot, with its derivative; elsewhere a constant is.
    pivot = tf.where(tf.equal(t, highest), t, highest)
    return good, pivot, t - pivot, rest(kept(z, good, compiled), index, pivot, good, compiled)


def _weighed_in_any_order(z: Array, index: Array, t: Array, legal: Array, compiled: bool) -> tuple[Array, ...]:
    """The same from a sum that has the highest of the others as its pivot, so that one of its terms is 1."""
    with tf.control_dependencies([t]):  # then the label can be taken out in place
        rivals, second = without(z, index, compiled)
    some = second > tf.constant(z.dtype.min, z.dtype)
    good = legal & tf.math.is_finite(second) & (tf.math.is_finite(t) | ((t < 0) & some))
    t, second = (tf.where(good, x, tf.zeros_like(x)) for x in (t, second))
    lead = t - second
    ahead = lead >= 0
    # Two factors, because the sum may make a normal number of a product that is none without it.
    size = tf.where(ahead, lead, tf.zeros_like(lead))
    head = tf.minimum(size, tf.constant(_FARTHEST, size.dtype))
    others = rest(kept(rivals, good, compiled), index, second, good, compiled) * tf.exp(-head) * tf.exp(head - size)
    return good, tf.where(ahead, t, second), tf.where(ahead, tf.zeros_like(lead), lead), others
