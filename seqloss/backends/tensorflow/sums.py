"""TensorFlow: sums with twice the digits, and their quotients."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from seqloss.backends import compensated
from seqloss.backends.tensorflow.numbers import power_of_two
from seqloss.core.protocol import Array


class _Wide(NamedTuple):
    """A sum in float64, with its derivative; what a sum of float64 leaves; and the dtype of what was added up."""

    value: Array
    low: Array | None
    dtype: Any


def wide_sum(x: Array, weights: Array | None, *, axis: tuple[int, ...]) -> _Wide:
    terms = tf.cast(x, tf.float64)
    plain = tf.reduce_sum(terms if weights is None else terms * tf.cast(weights, tf.float64), axis)
    if x.dtype != tf.float64:
        return _Wide(plain, None, x.dtype)
    terms, cut = tf.stop_gradient(x), None
    if weights is not None:
        terms, cut = compensated.product(terms, tf.stop_gradient(weights), "float64")
    high, low = _exact_sum(terms, cut, axis)
    # The derivative is that of the plain sum; and so is the value, where it is not finite.
    value = tf.where(tf.math.is_finite(high), high + (plain - tf.stop_gradient(plain)), plain)
    return _Wide(value, low, x.dtype)


def _exact_sum(terms: Array, cut: Array | None, axis: tuple[int, ...]) -> tuple[Array, Array]:
    """The sum of terms and of what was cut off from them, as a number and what that leaves."""
    sums = []
    for _ in range(2):
        # The leading bits of all terms are on one grid, on which up to four million of them add up without an error.
        grid = power_of_two(tf.reduce_max(tf.abs(terms), axis, keepdims=True)) * (1.5 * 2.0**22)
        leading = (terms + grid) - grid
        sums.append(tf.reduce_sum(leading, axis))
        terms -= leading
    high, left = compensated.difference(sums[0], -sums[1])
    return compensated.difference(high, -(left + tf.reduce_sum(terms if cut is None else terms + cut, axis)))


def quotient(numerator: _Wide, denominator: Any) -> Array:
    divisor, left = (denominator.value, denominator.low) if isinstance(denominator, _Wide) else (denominator, None)
    # A number by way of NumPy, because TensorFlow may be told to take it for one of 32 bits.
    divisor = tf.cast(divisor, tf.float64) if tf.is_tensor(divisor) else tf.constant(np.float64(divisor))
    empty = tf.equal(divisor, 0)
    divisor = tf.where(empty, tf.ones_like(divisor), divisor)
    value = numerator.value / divisor
    if numerator.low is not None:
        value += tf.stop_gradient(_refinement(value, numerator.value, numerator.low, divisor, left))
    return tf.cast(tf.where(empty, tf.zeros_like(value), value), numerator.dtype)


def _refinement(value: Array, high: Array, low: Array, divisor: Array, left: Array | None) -> Array:
    """What a quotient lacks, from what is left of the numerator when its product with the divisor is taken away."""
    product, cut = compensated.product(value, divisor, "float64")
    rest = ((high - product) - cut) + (low if left is None else low - value * left)
    missing = rest / divisor
    return tf.where(tf.math.is_finite(missing), missing, tf.zeros_like(missing))
