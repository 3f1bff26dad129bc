"""Sums of losses in TensorFlow: what functions, nests and strategies make of them, and derivatives."""

import numpy as np
import pytest
import tensorflow as tf

import seqloss

REFUSED = "a LossSum cannot be differentiated"


def draw(seed=0):
    rng = np.random.default_rng(seed)
    z, y = rng.normal(0, 3, (2, 3, 5)).astype("float32"), rng.integers(0, 5, (2, 3))
    return tf.constant(z), tf.constant(y), tf.constant(rng.uniform(0, 1, (2, 3)).astype("float32"))


def test_a_loop_of_a_function_carries_it():
    z, y, w = (tf.stack(x) for x in zip(*map(draw, range(4)), strict=True))

    @tf.function
    def evaluate(z, y, w):
        total = seqloss.LossSum.empty(z, accuracy=True)
        for i in tf.range(4):
            total = total + seqloss.loss_sum(z[i], y[i], w[i], accuracy=True)
        return total

    total = evaluate(z, y, w)
    assert type(total) is seqloss.LossSum
    parts = sum(seqloss.loss_sum(*draw(seed), accuracy=True) for seed in range(4))
    np.testing.assert_allclose(total.mean(), parts.mean(), rtol=2e-7)
    assert total.to_dict()["right"] == parts.to_dict()["right"]
    leaves = tf.nest.map_structure(tf.add, total, total)
    assert leaves.to_dict() == (total + total).to_dict()


def test_a_gradient_in_a_function_is_refused():
    @tf.function
    def step(z, y, w):
        with tf.GradientTape() as tape:
            tape.watch(z)
            mean = seqloss.loss_sum(z, y, w).mean()
        return tape.gradient(mean, z)

    with pytest.raises(seqloss.BackendError, match=REFUSED):
        step(*draw())


def test_a_function_in_a_tape_takes_logits_without_a_gradient():
    """TensorFlow makes the backward pass of all that a function returns when it is called."""
    z, y, w = draw()

    def step(z, detached):
        return seqloss.sequence_loss(z, y, w), seqloss.loss_sum(detached(z), y, detached(w))

    with tf.GradientTape() as tape:
        tape.watch(z)
        loss, total = tf.function(step)(z, tf.stop_gradient)
    expected = seqloss.sequence_loss_and_grad(z, y, w)[1]
    np.testing.assert_allclose(tape.gradient(loss, z), expected, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(total.mean(), loss, rtol=2e-7)
    with tf.GradientTape() as tape:
        tape.watch(z)
        with pytest.raises(seqloss.BackendError, match=REFUSED):
            tf.function(step)(z, lambda x: x)


def test_forward_mode_is_refused():
    z, y, w = draw()
    with pytest.raises(seqloss.BackendError), tf.autodiff.ForwardAccumulator(z, tf.ones_like(z)):
        seqloss.loss_sum(z, y, w).mean()


@pytest.mark.parametrize("compiled", [False, True])
def test_sizes_that_turn_out_to_differ(compiled):
    """An assertion fails; where the compiler drops it, the sum is NaN."""
    shapes = [[None, None, 5], [None, None], [None, None]]
    signature = [tf.TensorSpec(s, d) for s, d in zip(shapes, ("float32", "int64", "float32"), strict=True)]
    z, y, w = draw()

    @tf.function(input_signature=signature, jit_compile=compiled)
    def summed(z, y, w):
        total = seqloss.loss_sum(z, y, w)
        return total, total.mean()

    _, mean = summed(z, y, w)
    np.testing.assert_allclose(mean, seqloss.sequence_loss(z, y, w), rtol=2e-7)
    try:
        total, mean = summed(z, y[:1], w[:1])
    except tf.errors.InvalidArgumentError:
        return
    assert np.isnan(mean) and np.isnan(total.mean())
    assert total.to_dict()["losses"][16] > 0


def test_strategies_add_it_up():
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    total = strategy.run(tf.function(lambda: seqloss.loss_sum(*draw())))
    reduced = strategy.reduce(tf.distribute.ReduceOp.SUM, total, axis=None)
    assert reduced.to_dict() == total.to_dict()
