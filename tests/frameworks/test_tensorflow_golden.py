"""Recording what TensorFlow has beside eager tensors."""

import numpy as np
import pytest
import tensorflow as tf

from seqloss.testing import GoldenError, golden


def test_a_tensor_of_a_graph_has_no_values(tmp_path):
    with tf.Graph().as_default():
        x = tf.constant([1.0])
        with pytest.raises(GoldenError, match=r"in a graph of TensorFlow 1 record what Session.run returned"):
            golden.write(tmp_path / "x", {"x": x}, {"y": 0.0})
        with tf.compat.v1.Session() as session:
            path = golden.write(tmp_path / "x", {"x": session.run(x)}, {"y": session.run(tf.cast(x, tf.bfloat16))})
    got = golden.read(path)
    assert got.inputs["x"] == 1
    assert got.dtypes["y"] == "bfloat16"
    assert got.versions["tensorflow"] == tf.__version__


def test_a_traced_tensor_has_no_values(tmp_path):
    @tf.function
    def traced(x):
        golden.write(tmp_path / "x", {"x": x}, {"y": 0.0})

    with pytest.raises(GoldenError, match=r"x is a \w+ that has no values"):
        traced(tf.constant(1.0))


def test_variables_are_recorded(tmp_path):
    got = golden.read(golden.write(tmp_path / "x", {"x": tf.Variable([1.0, 2.0])}, {"y": tf.constant(3)}))
    np.testing.assert_array_equal(got.inputs["x"], np.array([1, 2], np.float32))
    assert got.results["y"].dtype == np.int32
