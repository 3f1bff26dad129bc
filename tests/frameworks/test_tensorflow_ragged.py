"""Ragged tensors: the loss, and gradients that come back ragged."""

import numpy as np
import pytest
import tensorflow as tf

import seqloss

SPLITS = [0, 3, 3, 8, 9]
SPECS = [tf.RaggedTensorSpec([None, None, 7], tf.float32, 1), tf.RaggedTensorSpec([None, None], tf.int64, 1)]


def ragged(values):
    return tf.RaggedTensor.from_row_splits(values, SPLITS)


def batch():
    """Values of logits, targets and weights of nine tokens."""
    rng = np.random.default_rng(0)
    logits, weights = rng.normal(size=(9, 7)), rng.uniform(0.5, 2, 9)
    return tf.constant(logits, tf.float32), tf.constant(rng.integers(0, 7, 9)), tf.constant(weights, tf.float32)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "per_sequence", "sequence_mean"])
def test_it_is_the_loss_of_packed_values(reduction):
    given, wrt = {"reduction": reduction, "label_smoothing": 0.1}, ("logits", "weights")
    expected, of_packed = seqloss.sequence_loss_and_grad(*batch(), cu_seqlens=SPLITS, wrt=wrt, **given)
    loss, gradients = seqloss.sequence_loss_and_grad(*map(ragged, batch()), wrt=wrt, **given)
    assert isinstance(loss, tf.RaggedTensor) == (reduction == "none")
    np.testing.assert_array_equal(loss.values if reduction == "none" else loss, expected)
    for got, wanted in zip(gradients, of_packed, strict=True):
        assert isinstance(got, tf.RaggedTensor)
        np.testing.assert_array_equal(got.row_splits, SPLITS)
        np.testing.assert_array_equal(got.values, wanted)


@pytest.mark.parametrize("way", ["eager", "function", "xla", "unknown sizes"])
def test_the_tape_gives_a_ragged_gradient(way):
    logits, targets, _ = map(ragged, batch())

    def both(logits, targets):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = seqloss.sequence_loss(logits, targets, reduction="sequence_mean")
        return value, tape.gradient(value, logits)

    ways = {
        "eager": both,
        "function": tf.function(both),
        "xla": tf.function(both, jit_compile=True),
        "unknown sizes": tf.function(both, input_signature=SPECS),
    }
    value, gradient = ways[way](logits, targets)
    expected, wanted = seqloss.sequence_loss_and_grad(
        logits.values, targets.values, cu_seqlens=SPLITS, reduction="sequence_mean"
    )
    assert isinstance(gradient, tf.RaggedTensor)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient.values, wanted, rtol=1e-4, atol=1e-7)


def test_other_lengths_are_an_error_or_nan():
    logits, targets, _ = batch()
    other = tf.RaggedTensor.from_row_splits(targets, [0, 3, 4, 8, 9])
    with pytest.raises(seqloss.ShapeError, match=r"logits, \[3, 0, 5, 1\], got \[3, 1, 4, 1\]"):
        seqloss.sequence_loss(ragged(logits), other)
    assert np.isnan(tf.function(seqloss.sequence_loss, autograph=False)(ragged(logits), other))


def test_lengths_of_closed_over_logits_are_compared_when_the_graph_runs():
    logits, targets, _ = batch()
    other = tf.RaggedTensor.from_row_splits(targets, [0, 3, 4, 8, 9])
    mine = ragged(logits)
    loss = tf.function(lambda y: seqloss.sequence_loss(mine, y, reduction="sequence_mean"), autograph=False)
    assert np.isnan(loss(other))
    np.testing.assert_allclose(loss(ragged(targets)), loss(tf.RaggedTensor.from_row_splits(targets, SPLITS)))
    assert np.isfinite(loss(ragged(targets)))


def test_what_cannot_be():
    logits, targets, _ = batch()
    with pytest.raises(seqloss.ArgumentTypeError, match="targets are ragged but logits are not"):
        seqloss.sequence_loss(logits[None], ragged(targets))
    with pytest.raises(seqloss.OptionError, match="cu_seqlens cannot be combined with ragged logits"):
        seqloss.sequence_loss(ragged(logits), ragged(targets), cu_seqlens=SPLITS)
    deeper = tf.RaggedTensor.from_row_splits(ragged(logits), [0, 4])
    with pytest.raises(seqloss.ArgumentTypeError, match="to_tensor"):
        seqloss.sequence_loss(deeper, ragged(targets))
    with pytest.raises(seqloss.ArgumentTypeError, match="to_tensor"):
        seqloss.token_loss(ragged(logits), ragged(targets))
