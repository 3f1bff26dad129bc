"""Weights, labels and class axes in graphs that do not know sizes or ranks."""

import numpy as np
import pytest
import tensorflow as tf

import seqloss

LOGITS = np.random.RandomState(5).randn(2, 3, 5).astype("float32")
IDS = np.array([[0, 1, 2], [3, 4, 0]], "int32")
ANY = tf.TensorSpec(None, "float32")


def graph(function, *specs):
    return tf.function(function, input_signature=specs)


def unknown(rank, dtype="float32"):
    return tf.TensorSpec([None] * rank, dtype)


@pytest.mark.parametrize("shape", [(), (2, 3), (2, 1), (1, 3), (1, 1)])
@pytest.mark.parametrize("spec", ["rank", "sizes"])
def test_weights_are_broadcast_when_the_graph_runs(spec, shape):
    weights = np.linspace(1, 2, int(np.prod(shape)), dtype="float32").reshape(shape)
    specs = (ANY, ANY) if spec == "rank" else (unknown(2), unknown(len(shape)))
    loss = graph(seqloss.compute_weighted_loss, *specs)(LOGITS[..., 0], weights)
    expected = seqloss.compute_weighted_loss(LOGITS[..., 0], weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 3, 1), (2, 2)])
def test_weights_that_do_not_fit_fail_when_the_graph_runs(shape):
    loss = graph(seqloss.compute_weighted_loss, ANY, ANY)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="weights must be a scalar, or have the rank of the losses"
    ):
        loss(LOGITS[..., 0], np.ones(shape, "float32"))


@pytest.mark.parametrize("function", [seqloss.softmax_cross_entropy, seqloss.sigmoid_cross_entropy])
def test_labels_that_do_not_fit_fail_when_the_graph_runs(function):
    loss = graph(function, unknown(3), unknown(3))
    np.testing.assert_allclose(loss(LOGITS, LOGITS), function(LOGITS, LOGITS), rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the labels must have the shape of logits"):
        loss(LOGITS[:1], LOGITS)


def test_soft_labels_are_broadcast_when_the_graph_runs():
    loss = graph(seqloss.softmax_cross_entropy_with_logits, ANY, ANY)
    expected = seqloss.softmax_cross_entropy_with_logits(LOGITS[:1], LOGITS)
    np.testing.assert_allclose(loss(LOGITS[:1], LOGITS), expected, rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the labels must have the shape of logits"):
        loss(LOGITS, LOGITS[:1])


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_a_class_axis_needs_a_rank(axis):
    def loss(labels, logits):
        return seqloss.softmax_cross_entropy_with_logits(labels, logits, axis)

    with pytest.raises(seqloss.ShapeError, match="logits must have a known rank if axis is not -1"):
        graph(loss, ANY, ANY).get_concrete_function()
    expected = seqloss.softmax_cross_entropy_with_logits(LOGITS, LOGITS, axis)
    np.testing.assert_allclose(graph(loss, unknown(3), unknown(3))(LOGITS, LOGITS), expected, rtol=1e-5)


def test_the_last_axis_of_labels_of_unknown_sizes_is_taken_off():
    loss = graph(seqloss.sparse_softmax_cross_entropy, unknown(3, "int32"), unknown(3), unknown(3))
    weights = np.ones((2, 3, 1), "float32")
    expected = seqloss.sparse_softmax_cross_entropy(IDS, LOGITS)
    np.testing.assert_allclose(loss(IDS[..., None], LOGITS, weights), expected, rtol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError):
        loss(np.stack([IDS, IDS], -1), LOGITS, weights)


@pytest.mark.parametrize("classes", [2, 5])
def test_label_smoothing_with_an_unknown_number_of_classes(classes):
    def loss(labels, logits):
        return seqloss.softmax_cross_entropy(labels, logits, label_smoothing=0.3)

    z = LOGITS[..., :classes]
    np.testing.assert_allclose(graph(loss, ANY, ANY)(z, z), loss(z, z), rtol=1e-5)


@pytest.mark.parametrize("reduction", seqloss.Reduction.all()[1:])
def test_no_losses_in_a_graph(reduction):
    def loss(losses):
        return seqloss.compute_weighted_loss(losses, reduction=reduction)

    assert graph(loss, ANY)(np.zeros((0, 3), "float32")) == 0


def test_a_scope_names_the_operations():
    function = graph(lambda z: seqloss.sigmoid_cross_entropy(z, z, scope="my_loss"), unknown(2))
    names = [operation.name for operation in function.get_concrete_function().graph.get_operations()]
    assert any(name.startswith("my_loss/") for name in names)


def test_no_collection_is_touched():
    with tf.Graph().as_default() as g:
        z = tf.zeros([2, 3])
        seqloss.sigmoid_cross_entropy(z, z)
        assert g.get_all_collection_keys() == []
