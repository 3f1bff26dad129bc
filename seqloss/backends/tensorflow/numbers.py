"""TensorFlow: exponentials of differences, capped logits, and numbers in the dtype of the logits.

Arrays are [tokens, classes]. In float64 the place of a class in its row changes no bit of what is computed of it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from seqloss.core.protocol import SMALLEST_ACTIVE, Array

_PACKET = 8
"""Numbers of float64 that a processor takes at a time, at most."""

# Of float64. As a number of NumPy, because TensorFlow may be told to take a Python number for one of 32 bits.
_EXPONENT = np.int64(0x7FF << 52)


def exp_of_difference(z: Array, shift: Array, compiled: bool) -> Array:
    """``exp(z - shift)``. The rounding error of the difference is corrected where that costs no pass over memory."""
    difference = z - shift
    if not compiled:
        return _in_packets(tf.exp, difference, compiled)
    e = tf.exp(difference)
    # What the subtraction took from z and from shift, each less what it should have been: exact, as Knuth proved.
    taken = difference - z
    error = (z - (difference - taken)) - (shift + taken)
    return e + e * tf.stop_gradient(tf.where(tf.math.is_finite(difference), error, tf.zeros_like(error)))


def capped(x: Array, softcap: float | None, compiled: bool) -> Array:
    """``softcap * tanh(x / softcap)`` of logits that are not infinite."""
    if softcap is None:
        return x
    cap = tf.constant(softcap, x.dtype)

    def cap_all(x: Array) -> Array:
        # Comparisons in place of abs and sign, whose derivatives at 0 are 0. That of tanh is 1 - tanh**2, which is 0
        # far out; that of expm1 is as good there as anywhere.
        below, finite = x < 0, tf.math.is_finite(x)
        # Selected first, because 0 times the derivative at NaN is NaN.
        v = tf.math.expm1(tf.where(finite, tf.where(below, x, -x), tf.zeros_like(x)) * (2 / cap))
        size = cap * (-v / (2 + v))
        return tf.where(finite, tf.where(below, -size, size), x)

    return _in_packets(cap_all, x, compiled)


def slope_of_cap(x: Array, softcap: float, compiled: bool) -> Array:
    """The derivative of :func:`capped`."""
    cap = tf.constant(softcap, x.dtype)

    def slope(x: Array) -> Array:
        e = tf.exp(tf.where(x < 0, x, -x) * (2 / cap))
        return 4 * e / ((1 + e) * (1 + e))

    return _in_packets(slope, x, compiled)


def _in_packets(function: Callable[[Array], Array], x: Array, compiled: bool) -> Array:
    """A function of each number of an array.

    What is left over behind the last packet goes through another function in TensorFlow 2.21, whose last bits differ.
    So the last rows are computed anew, as many as packets are sure to fill.
    """
    value = function(x)
    if compiled or x.dtype != tf.float64:
        return value
    rows = tf.shape(x)[0]
    count = tf.minimum(rows, _PACKET)
    last = function(tf.pad(x[-_PACKET:], [[0, _PACKET - count], [0, 0]]))[:count]
    # With an axis more than is needed: without it a second derivative has slices, which forward mode (TensorFlow 2.21)
    # cannot take. With a front axis in the indices and the values too, or one made by None, DTensor ends the process.
    places = tf.range(rows - count, rows)
    index = tf.stack([tf.zeros_like(places), places], -1)
    return tf.squeeze(tf.tensor_scatter_nd_update(tf.expand_dims(value, 0), index, last), [0])


def rounded(x: Array, dtype: Any) -> Array:
    """Numbers in the dtype of the logits; those of exact mode are rounded once, as the contract has it."""
    if x.dtype == dtype or x.dtype == tf.float32:
        return tf.cast(x, dtype)
    x = tf.where(tf.abs(x) < SMALLEST_ACTIVE, tf.zeros_like(x), x)
    if dtype != tf.float32:
        bits = tf.bitcast(x, tf.int64)
        cut = tf.constant((1 << 29) - 1, tf.int64)
        odd = tf.where(tf.equal(tf.bitwise.bitwise_and(bits, cut), 0), tf.zeros_like(bits), cut + 1)
        x = tf.bitcast(tf.bitwise.bitwise_or(bits - tf.bitwise.bitwise_and(bits, cut), odd), tf.float64)
    return tf.cast(tf.cast(x, tf.float32), dtype)


def power_of_two(x: Array) -> Array:
    """The largest power of 2 that is not above the size of float64 numbers."""
    exponent = tf.bitwise.bitwise_and(tf.bitcast(x, tf.int64), tf.constant(_EXPONENT))
    return tf.bitcast(exponent, tf.float64)
