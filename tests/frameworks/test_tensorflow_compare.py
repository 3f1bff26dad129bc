"""Comparing what TensorFlow has beside eager tensors."""

import numpy as np
import pytest
import tensorflow as tf

import seqloss
from seqloss.testing import compare

X = np.array([[1.5, 0.0], [np.nan, 0.1]], np.float32)


def test_a_tensor_of_a_graph_has_no_values():
    @tf.function
    def inside(x):
        return compare(x, X).same

    with pytest.raises(seqloss.UnreadableError, match="actual has no values to read"):
        inside(tf.constant(X))


def test_a_ragged_tensor_is_refused():
    with pytest.raises(seqloss.ArgumentTypeError, match=r"expected is a RaggedTensor, .* pass expected.to_tensor\(\)"):
        compare(X, tf.ragged.constant([[1.0], [1.0, 2.0]]))


def test_a_variable_of_half_precision():
    x = tf.Variable(tf.cast(X, "bfloat16"))
    result = compare(x, tf.cast(X, "bfloat16"), check_framework=True)
    assert result.same
    assert result.actual.type == "tensorflow.ResourceVariable"
    assert (result.actual.dtype, result.actual.device) == ("bfloat16", "CPU:0")
