"""The options of the loss against the losses of Keras, in float32, values and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import seqloss

PAD, CLASSES = 0, 9


def batch():
    """Logits [3, 5, 9], targets whose padding is at the end of two sequences, and weights."""
    rng = np.random.default_rng(0)
    targets = rng.integers(1, CLASSES, (3, 5))
    targets[1, 3:], targets[2, 1:] = PAD, PAD
    logits, weights = rng.normal(0, 3, (3, 5, CLASSES)), rng.uniform(0.5, 2, (3, 5))
    return tf.constant(logits, tf.float32), tf.constant(targets), tf.constant(weights, tf.float32)


def agree(loss, expected, logits):
    """Two functions of logits, for a cotangent that is not uniform."""
    found = []
    for function in (loss, expected):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = function(logits)
        assert isinstance(value, tf.Tensor) and value.dtype == tf.float32
        upstream = tf.reshape(tf.linspace(0.5, 2.0, tf.size(value)), value.shape)
        found.append((value, tape.gradient(value, logits, tf.cast(upstream, tf.float32))))
    (value, slope), (true, true_slope) = found
    assert value.shape == true.shape
    np.testing.assert_allclose(value, true, rtol=3e-6)
    np.testing.assert_allclose(slope, true_slope, rtol=1e-4, atol=1e-6)
    assert abs(true_slope.numpy()).max() > 1e-3


@pytest.mark.parametrize("reduction, ours", [("sum_over_batch_size", "mean"), ("sum", "sum"), (None, "none")])
@pytest.mark.parametrize("ignored", [None, PAD, 4])
def test_sparse_categorical_crossentropy(reduction, ours, ignored):
    """With ``ignore_class`` Keras divides by the labels that count."""
    logits, targets, _ = batch()
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignored, reduction=reduction)
    agree(
        lambda z: seqloss.sequence_loss(z, targets, ignore_index=ignored, reduction=ours),
        lambda z: theirs(targets, z),
        logits,
    )


def test_sample_weights_are_divided_by_the_number_of_tokens():
    """Not by their sum, which is a reduction of its own in Keras."""
    logits, targets, weights = batch()
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    agree(
        lambda z: seqloss.sequence_loss(z, targets, weights, reduction="sum", normalizer=15),
        lambda z: theirs(targets, z, sample_weight=weights),
        logits,
    )
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    agree(
        lambda z: seqloss.sequence_loss(z, targets, weights),
        lambda z: theirs(targets, z, sample_weight=weights),
        logits,
    )


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_categorical_crossentropy(eps):
    logits, targets, _ = batch()
    one_hot = tf.one_hot(targets, CLASSES)
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=eps)
    for given in (targets, one_hot):
        agree(
            lambda z, given=given: seqloss.sequence_loss(z, given, label_smoothing=eps),
            lambda z: theirs(one_hot, z),
            logits,
        )
