"""What TensorFlow adds to the sampled losses: IndexedSlices, sizes that graphs do not know, second derivatives."""

import numpy as np
import pytest
import tensorflow as tf
from sampled_cases import CLASSES, SAMPLED, draw, oracle, split

from seqloss import sampling

SIZES = {"num_sampled": SAMPLED, "num_classes": CLASSES, "num_true": 2}
ARRAYS = draw()
USED = sorted({*ARRAYS[2].ravel().tolist(), *ARRAYS[4].tolist()})


def loss(weights, biases, labels, inputs, *values, **options):
    return sampling.sampled_softmax_loss(weights, biases, labels, inputs, **SIZES, sampled_values=values, **options)


@pytest.mark.parametrize("in_graph", [False, True])
def test_variables_have_indexed_slices_of_the_used_rows_alone(in_graph):
    weights, biases = (tf.Variable(x) for x in ARRAYS[:2])
    rest = [tf.constant(x) for x in ARRAYS[2:]]
    kinds = []

    def step():
        with tf.GradientTape() as tape:
            value = loss(weights, biases, *rest)
        gradients = tape.gradient(value, [weights, biases])
        kinds.extend(isinstance(x, tf.IndexedSlices) for x in gradients)
        return [x.indices for x in gradients], [tf.convert_to_tensor(x) for x in gradients]

    indices, gradients = (tf.function(step) if in_graph else step)()
    assert kinds == [True, True]
    expected = oracle("softmax", ARRAYS)
    for ids, gradient, wanted in zip(indices, gradients, expected[1:3], strict=True):
        assert sorted(set(ids.numpy().tolist())) == USED
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-6)


def test_each_shard_has_indexed_slices_of_its_used_rows_alone():
    shards = [tf.Variable(x) for x in split(ARRAYS[0], 3, "div")]
    with tf.GradientTape() as tape:
        value = loss(shards, *(tf.constant(x) for x in ARRAYS[1:]), partition_strategy="div")
    for gradient, ids in zip(tape.gradient(value, shards), split(np.arange(CLASSES), 3, "div"), strict=True):
        used = [row for row, i in enumerate(ids) if i in USED]
        assert gradient is None if not used else sorted(set(gradient.indices.numpy().tolist())) == used


WRONG = {
    "weights": (0, np.ones((CLASSES + 1, 4), "float32")),
    "biases": (1, np.ones(CLASSES - 1, "float32")),
    "labels_batch": (2, np.ones((4, 2), "int64")),
    "labels_columns": (2, np.ones((3, 3), "int64")),
    "inputs": (3, np.ones((5, 4), "float32")),
    "sampled": (4, np.ones(SAMPLED + 1, "int64")),
    "true_expected_batch": (5, np.ones((1, 2), "float32")),
    "true_expected_columns": (5, np.ones((3, 1), "float32")),
    "sampled_expected": (6, np.ones(1, "float32")),
}


@pytest.fixture(scope="module", params=["sizes", "rank"])
def unknowing(request):
    """The loss in a graph that knows no sizes, or no ranks."""
    arrays = [tf.constant(x) for x in ARRAYS]
    spec = [tf.TensorSpec([None] * x.ndim if request.param == "sizes" else None, x.dtype) for x in arrays]
    return tf.function(loss, input_signature=spec)


@pytest.mark.parametrize("name", WRONG)
def test_sizes_that_differ_when_the_graph_runs(unknowing, name):
    place, wrong = WRONG[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match="sizes differ at run time"):
        unknowing(*(tf.constant(wrong if i == place else x) for i, x in enumerate(ARRAYS)))


def test_sizes_that_agree_when_the_graph_runs(unknowing):
    value = unknowing(*map(tf.constant, ARRAYS))
    np.testing.assert_allclose(value, oracle("softmax", ARRAYS).loss, rtol=1e-5)


@pytest.mark.parametrize("function", [sampling.sampled_softmax_loss, sampling.nce_loss])
def test_second_derivatives(function):
    """Against differences of the first, along a direction."""
    arrays = draw(dtype="float64")
    direction = np.random.default_rng(3).normal(size=arrays[0].shape)

    def first(step):
        with tf.GradientTape() as tape:
            t = tf.constant(step, tf.float64)
            tape.watch(t)
            with tf.GradientTape() as inner:
                inner.watch(t)
                weights, rest = arrays[0] + t * direction, [tf.constant(x) for x in arrays[1:]]
                options = {"sampled_values": tuple(rest[3:]), "remove_accidental_hits": True}
                value = tf.reduce_sum(function(weights, *rest[:3], **SIZES, **options))
            slope = inner.gradient(value, t)
        return float(slope), float(tape.gradient(slope, t))

    difference = (first(1e-5)[0] - first(-1e-5)[0]) / 2e-5
    np.testing.assert_allclose(first(0.0)[1], difference, rtol=1e-6)
