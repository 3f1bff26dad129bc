"""TensorFlow: the prior on the possible classes, ``q`` in ``seqloss.core.contract``. Without an array it is 1."""

import tensorflow as tf

from seqloss.backends.tensorflow.blocks import total
from seqloss.core.protocol import Array


def mean_below(z: Array, pivot: Array, prior: Array | None, compiled: bool) -> tuple[Array, Array]:
    """The sum of ``q (pivot - z)`` over the possible classes of each row, 0 where the mass is 0; and the mass."""
    possible = ~tf.math.is_inf(z)
    # Selected before the difference, in which nobody is to find an infinity.
    below = pivot[:, None] - tf.where(possible, z, pivot[:, None])
    weights = tf.cast(possible, z.dtype)
    if prior is not None:
        below, weights = below * prior, weights * prior
    mass = tf.stop_gradient(total(weights, compiled))
    some = mass > 0
    mean = total(below, compiled) / tf.where(some, mass, tf.ones_like(mass))
    return tf.where(some, mean, tf.zeros_like(mean)), mass


def shares(cotangent: Array, mass: Array) -> tuple[Array, Array]:
    """A cotangent of unl, 0 where the mass is 0; and divided by the mass."""
    some = mass > 0
    cotangent = tf.where(some, cotangent, tf.zeros_like(cotangent))
    return cotangent, cotangent / tf.where(some, mass, tf.ones_like(mass))


def without(gradient: Array, z: Array, share: Array, prior: Array | None) -> Array:
    """A gradient [tokens, classes] less ``share`` times the prior at the possible classes."""
    part = share[:, None] if prior is None else share[:, None] * prior
    return gradient - tf.where(tf.math.is_inf(z), tf.zeros_like(z), part)


def prior_at(index: Array, t: Array, prior: Array | None) -> Array:
    """The prior at an index of each row, whose logit is ``t``: 0 where that is impossible."""
    weights = tf.ones_like(t) if prior is None else tf.gather(prior, index)
    return tf.where(tf.math.is_inf(t), tf.zeros_like(t), weights)
