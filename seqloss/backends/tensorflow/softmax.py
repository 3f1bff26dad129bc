"""TensorFlow: the statistics of tokens with soft labels, and their pullback. See ``seqloss.core.contract``.

Both work on [tokens, classes], so that an unknown rank is no obstacle, and both may be differentiated. ``saved`` holds
the first class that has the largest logit of its row; that logit; and what the others add up to beside it, NaN where
the gradient row is to be NaN.
"""

import tensorflow as tf

from seqloss.backends.tensorflow import distribution
from seqloss.backends.tensorflow.blocks import as_rows, filled, idle_rows, is_compiled, kept, like, put, rest, total
from seqloss.backends.tensorflow.numbers import capped, exp_of_difference, rounded, slope_of_cap
from seqloss.backends.tensorflow.ops import nan_unless
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array


def label_statistics(logits: Array, labels: Array, active: Array | None, prior: Array | None, spec: Spec) -> Statistics:
    compiled = is_compiled()
    y, z = (tf.cast(as_rows(x), spec.dtype) for x in (labels, logits))
    z = capped(z, spec.softcap, compiled)
    # A row without statistics becomes NaN at the end; until then it holds zeros, to keep NaN out of the derivatives.
    good = tf.math.is_finite(tf.reduce_max(z, -1))
    counts = None if active is None else tf.reshape(active, [-1])
    z, y = kept(z, good, compiled), y if counts is None else kept(y, counts, compiled)
    index = tf.argmax(z, -1, output_type=tf.int32)
    pivot = tf.gather(z, index, batch_dims=1)
    others = rest(z, index, pivot, good, compiled)
    spread = tf.math.log1p(others)
    # A class with logit -infinity and label 0 costs nothing: 0 times infinity is 0 here.
    possible = tf.where(tf.equal(y, 0) & tf.math.is_inf(z), pivot[:, None], z)
    nll = total(y * ((pivot[:, None] - possible) + spread[:, None]), compiled)
    unl = mass = None
    if spec.unl:
        mean, mass = distribution.mean_below(z, pivot, prior, compiled)
        unl = tf.where(mass > 0, mean + spread, tf.zeros_like(spread))
    values = [nll, pivot + spread if spec.lse else None, unl, others]
    if counts is not None:
        values = [None if x is None else tf.where(counts, x, tf.zeros_like(x)) for x in values]
        good |= ~counts
    values = [None if x is None else _as_tokens(nan_unless(good, x), logits) for x in values]
    nll, lse, unl, others = values
    mass = None if mass is None else _as_tokens(mass, logits)
    return Statistics(nll, lse, unl, mass, (_as_tokens(index, logits), _as_tokens(pivot, logits), others))


def label_pullback(
    cotangents: Cotangents,
    logits: Array,
    labels: Array,
    mass: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
    wrt_labels: bool,
) -> tuple[Array, Array | None]:
    if not any(x is not None for x in cotangents):
        return tf.zeros_like(logits), tf.zeros_like(labels) if wrt_labels else None
    compiled = is_compiled()
    index, pivot, others = (tf.reshape(x, [-1]) for x in statistics.saved)
    idle, skipped = idle_rows(cotangents, active)
    # Only rows that are not finite: for the others the derivative of the gradient is needed at cotangent 0 too.
    replaced = idle & ~tf.math.is_finite(others)
    replaced = replaced if skipped is None else replaced | skipped
    x = kept(tf.cast(as_rows(logits), spec.dtype), ~replaced, compiled)
    pivot, others = (filled(x, replaced, 0.0) for x in (pivot, others))
    a, b, c = (None if x is None else filled(x, skipped, 0.0) for x in cotangents)
    z, whole, share = capped(x, spec.softcap, compiled), 1 + others, None
    if c is not None:
        c, share = distribution.shares(c, filled(statistics.mass, replaced, 1.0))
    e = exp_of_difference(z, pivot[:, None], compiled) / whole[:, None]
    parts, at_highest = [], []
    if a is not None:
        y, mass = tf.cast(as_rows(labels), spec.dtype), tf.reshape(mass, [-1])
        y = tf.where(idle[:, None] & ~tf.math.is_finite(y), tf.zeros_like(y), y)
        mass = tf.where(idle & ~tf.math.is_finite(mass), tf.zeros_like(mass), mass)
        parts.append(a[:, None] * (mass[:, None] * e - y))
        own = tf.gather(y, index, batch_dims=1)
        around_1 = 2 * tf.abs(own) > tf.abs(mass)
        at_highest.append(a * tf.where(around_1, (mass - own) - mass * (others / whole), mass / whole - own))
    for cotangent in (b, c):
        if cotangent is not None:
            parts.append(cotangent[:, None] * e)
            at_highest.append(cotangent / whole)
    gradient, at_highest = tf.add_n(parts), tf.add_n(at_highest)
    if share is not None:
        gradient = distribution.without(gradient, z, share, prior)
        at_highest -= share * distribution.prior_at(index, pivot, prior)
    gradient = put(gradient, index, at_highest)
    if spec.softcap is not None:
        gradient *= slope_of_cap(x, spec.softcap, compiled)
    to_logits = like(rounded(gradient, logits.dtype), logits)
    return to_logits, _to_labels(a, z, pivot, others, labels) if wrt_labels else None


def _to_labels(a: Array | None, z: Array, pivot: Array, others: Array, labels: Array) -> Array:
    if a is None:
        return tf.zeros_like(labels)
    a, pivot = a[:, None], pivot[:, None]
    # A class with logit -infinity has an infinite cost, which a cotangent of 0 must remove as well.
    possible = tf.where(tf.equal(a, 0) & tf.math.is_inf(z), pivot, z)
    return like(rounded(a * ((pivot - possible) + tf.math.log1p(others)[:, None]), labels.dtype), labels)


def _as_tokens(x: Array, logits: Array) -> Array:
    return tf.ensure_shape(tf.reshape(x, tf.shape(logits)[:-1]), logits.shape[:-1])
