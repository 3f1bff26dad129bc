"""The grid of exact sums in TensorFlow grows with the number of classes."""

import math

import pytest
import tensorflow as tf

from seqloss.backends.tensorflow import blocks


@pytest.mark.parametrize("classes", [1, 2**18, 2**18 + 1, 2**20, 2**24 + 3])
def test_so_many_numbers_up_to_1_add_up_exactly(classes):
    grid = blocks._grid(tf.zeros([1, classes], tf.float64), tf.constant([True]))
    step = math.ulp(float(grid))
    assert classes <= 2**53 * step
    # And no coarser than it has to be: what is left is added up plainly.
    assert step <= max(2.0**-34, 4 * classes * 2.0**-53)
