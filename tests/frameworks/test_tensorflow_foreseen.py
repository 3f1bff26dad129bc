"""The gradient that the forward pass makes: what the tapes of TensorFlow do with it."""

import numpy as np
import pytest
import tensorflow as tf

import seqloss
from seqloss.backends import on_numpy
from seqloss.losses.sequence_op import SequenceLossOp


def batch(dtype="float32"):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (4, 5, 9))
    logits[0, 0, 0] = np.nan  # at weight 0
    weights = rng.integers(0, 3, (4, 5)) / 2
    weights[0, 0] = 0
    targets = tf.constant(rng.integers(0, 9, (4, 5)))
    return tf.cast(tf.constant(logits), dtype), targets, tf.constant(weights, tf.float32)


@pytest.fixture
def passes(monkeypatch):
    """The calls of the operation on NumPy, by their names."""
    seen = []
    for name in ("forward", "pullback", "at_once"):
        method = getattr(SequenceLossOp, name)
        monkeypatch.setattr(SequenceLossOp, name, lambda *x, method=method, name=name: seen.append(name) or method(*x))
    return seen


def gradients(upstream, dtype="float32", **options):
    logits, targets, weights = batch(dtype)
    with tf.GradientTape() as tape:
        tape.watch([logits, weights])
        loss = seqloss.sequence_loss(logits, targets, weights, **options)
    return tape.gradient(loss, [logits, weights], tf.constant(upstream, loss.dtype))


@pytest.mark.parametrize("upstream", [1.0, 2.0, 0.5, 0.3, 0.0, np.inf], ids=str)
@pytest.mark.parametrize("dtype, is_exact", [("float32", False), ("float32", True), ("bfloat16", False)])
def test_any_upstream(monkeypatch, dtype, is_exact, upstream):
    given = gradients(upstream, dtype, exact=is_exact)
    monkeypatch.setattr(on_numpy.RunOnNumPy, "of", on_numpy.RunOnNumPy)  # made anew, and not foreseen
    monkeypatch.setattr(SequenceLossOp, "is_foreseen", False)
    for x, y in zip(given, gradients(upstream, dtype, exact=is_exact), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        x, y = tf.cast(x, tf.float32).numpy(), tf.cast(y, tf.float32).numpy()
        if is_exact or dtype == "bfloat16" or upstream in (1, 0.5):
            np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=0)


def test_a_gradient_is_made_where_a_tape_watches(passes):
    gradients(1.0)
    assert passes == ["at_once"]
    passes.clear()
    seqloss.sequence_loss(*batch())
    with tf.GradientTape() as tape:
        seqloss.sequence_loss(*batch())
        with tape.stop_recording():
            seqloss.sequence_loss(*batch())
    assert passes == ["forward"] * 3


def test_a_persistent_tape_returns_it_twice():
    logits, targets, weights = batch()
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        loss = seqloss.sequence_loss(logits, targets, weights)
        twice = 2 * loss
    first, second, third = tape.gradient(loss, logits), tape.gradient(loss, logits), tape.gradient(twice, logits)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(2 * first, third)


def test_second_derivatives():
    logits, targets, weights = (x[1:] for x in batch("float64"))
    with tf.GradientTape() as outer:
        outer.watch(logits)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            loss = seqloss.sequence_loss(logits, targets, weights)
        (first,) = inner.gradient(loss, [logits])
        total = tf.reduce_sum(first * first)
    second = outer.gradient(total, logits)
    with tf.GradientTape() as outer:
        outer.watch(logits)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            nll = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
            weights = tf.cast(weights, tf.float64)
            loss = tf.reduce_sum(nll * weights) / tf.reduce_sum(weights)
        (first,) = inner.gradient(loss, [logits])
        total = tf.reduce_sum(first * first)
    np.testing.assert_allclose(second, outer.gradient(total, logits), rtol=1e-9, atol=1e-12)
