"""The options of the loss in TensorFlow graphs, where sizes are unknown and NumPy computes nothing."""

import numpy as np
import pytest
import tensorflow as tf

import seqloss
from seqloss.testing import cases

NUMBERS = np.array([1, 0.5, 2, 1, 3], "float32")


def arrays():
    logits, targets, weights = cases.draw(3, 4, 5)
    return logits.astype("float32"), targets, weights.astype("float32")


def unknown(*dtypes):
    """Arrays of any size; the ranks are those of logits, targets, and numbers of classes."""
    ranks = {"logits": 3, "targets": 2, "weights": 2, "classes": 1}
    return [tf.TensorSpec([None] * ranks[name], dtype) for name, dtype in dtypes]


LOGITS, TARGETS = ("logits", tf.float32), ("targets", tf.int64)


@pytest.mark.parametrize("exact", [False, True])
def test_a_mean_of_sequences_of_an_unknown_number(exact):
    logits, targets, _ = arrays()
    options = {"reduction": "sequence_mean", "exact": exact}

    @tf.function(input_signature=unknown(LOGITS, TARGETS))
    def both(z, y):
        return seqloss.sequence_loss_and_grad(z, y, **options)

    loss, gradient = both(logits, targets)
    expected, slopes = seqloss.sequence_loss_and_grad(logits, targets, **options)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("is_explicit", [False, True])
@pytest.mark.parametrize("smoothing", [0.1, seqloss.Smoothing(0.1, off_target=True, centred=True)])
def test_weight_0_leaves_no_row_of_nan(smoothing, is_explicit):
    logits, targets, weights = arrays()
    weights[1, 2], logits[1, 2] = 0, np.nan

    @tf.function
    def gradients(z, y, w):
        if is_explicit:
            wrt = ("logits", "weights")
            return seqloss.sequence_loss_and_grad(z, y, w, label_smoothing=smoothing, wrt=wrt)[1]
        with tf.GradientTape() as tape:
            tape.watch((z, w))
            loss = seqloss.sequence_loss(z, y, w, label_smoothing=smoothing)
        return tape.gradient(loss, (z, w))

    to_logits, to_weights = gradients(*map(tf.constant, (logits, targets, weights)))
    np.testing.assert_array_equal(to_logits[1, 2], np.zeros(5))
    assert np.isfinite(to_logits).all()
    assert np.isfinite(to_weights).all()


@pytest.mark.parametrize("count", [4, 6])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_numbers_of_classes_are_compared_when_the_graph_runs(count, smoothing):
    logits, targets, _ = arrays()

    @tf.function(input_signature=unknown(LOGITS, TARGETS, ("classes", tf.float32)))
    def loss(z, y, numbers):
        return seqloss.sequence_loss(z, y, label_smoothing=smoothing, class_weights=numbers)

    assert np.isfinite(loss(logits, targets, NUMBERS))
    with pytest.raises(tf.errors.InvalidArgumentError, match="one number for each class"):
        loss(logits, targets, np.resize(NUMBERS, count))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_lengths_of_another_batch_are_noticed_when_the_graph_shifts_targets(jit_compile):
    @tf.function(input_signature=unknown(TARGETS, ("classes", tf.int64)), jit_compile=jit_compile)
    def shift(targets, lengths):
        return seqloss.next_token(targets, lengths=lengths)

    _, targets, _ = arrays()
    assert shift(targets, [4, 2, 0])[1].numpy().sum() == 4
    with pytest.raises(tf.errors.InvalidArgumentError):
        shift(targets, [4, 2])
