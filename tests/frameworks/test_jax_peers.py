"""The options of the loss against those that JAX programs have, in float64, values and gradients.

optax and t5x are not installed where these tests run, so their formulas are written out. The calls of optax
itself are in ``tests/engines/test_shown.py``.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqloss

PAD, CLASSES = 0, 9


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def batch():
    """Logits [3, 5, 9] and targets, whose padding is at the end of two sequences."""
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 3, (3, 5, CLASSES)), rng.integers(1, CLASSES, (3, 5))
    targets[1, 3:], targets[2, 1:] = PAD, PAD
    return jnp.asarray(logits), jnp.asarray(targets)


def smooth_labels(labels, alpha):
    """``optax.smooth_labels``."""
    num_categories = labels.shape[-1]
    return (1.0 - alpha) * labels + alpha / num_categories


def softmax_cross_entropy(logits, labels):
    """``optax.softmax_cross_entropy``."""
    return -jnp.sum(labels * jax.nn.log_softmax(logits, axis=-1), axis=-1)


def cross_entropy_with_z_loss(logits, labels, z_loss):
    """``cross_entropy_with_logits`` of t5x.losses and MaxText."""
    log_z = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    loss = -jnp.sum(labels * (logits - log_z), axis=-1)
    return loss + z_loss * jax.lax.square(jnp.squeeze(log_z, axis=-1))


def agree(loss, expected, logits):
    """Two functions of logits, for a cotangent that is not uniform."""
    (value, pull), (true, exact) = (jax.vjp(function, logits) for function in (loss, expected))
    assert isinstance(value, jax.Array)
    assert value.dtype == true.dtype == jnp.float64
    assert value.shape == true.shape
    upstream = jnp.linspace(0.5, 2, value.size).reshape(value.shape)
    np.testing.assert_allclose(value, true, rtol=1e-12)
    (slope,), (true_slope,) = pull(upstream), exact(upstream)
    np.testing.assert_allclose(slope, true_slope, rtol=1e-10, atol=1e-15)
    assert abs(true_slope).max() > 1e-3


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.4])
def test_smooth_labels_of_optax(eps):
    logits, targets = batch()
    labels = smooth_labels(jax.nn.one_hot(targets, CLASSES, dtype="float64"), eps)
    agree(
        lambda z: seqloss.token_loss(z, targets, label_smoothing=eps),
        lambda z: softmax_cross_entropy(z, labels),
        logits,
    )


@pytest.mark.parametrize("how", ["ignored", "lengths", "where"])
def test_the_mean_of_optax(how):
    """Of tokens that are no padding, as programs with optax write it; the loss takes three forms of padding."""
    logits, targets = batch()
    weights = targets != PAD
    labels = smooth_labels(jax.nn.one_hot(targets, CLASSES, dtype="float64"), 0.1)
    padding = {
        "ignored": {"ignore_index": PAD},
        "lengths": {"lengths": jnp.asarray([5, 3, 1])},
        "where": {"weights": weights},
    }
    agree(
        lambda z: seqloss.sequence_loss(z, targets, label_smoothing=0.1, **padding[how]),
        lambda z: jnp.mean(softmax_cross_entropy(z, labels), where=weights),
        logits,
    )


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("z_loss", [1e-4, 0.1])
def test_the_z_loss_of_t5x(eps, z_loss):
    """Whose labels are smoothed off the target; its constant is left out here."""
    logits, targets = batch()
    on, off = 1 - eps, eps / (CLASSES - 1)
    labels = jnp.where(jax.nn.one_hot(targets, CLASSES) == 1, on, off)
    smoothing = seqloss.Smoothing(eps, off_target=True)
    agree(
        lambda z: seqloss.token_loss(z, targets, label_smoothing=smoothing, z_loss=z_loss),
        lambda z: cross_entropy_with_z_loss(z, labels, z_loss),
        logits,
    )


@pytest.mark.parametrize("cap", [5.0, 30.0])
def test_the_cap_of_gemma(cap):
    logits, targets = batch()
    labels = jax.nn.one_hot(targets, CLASSES, dtype="float64")
    agree(
        lambda z: seqloss.token_loss(z, targets, softcap=cap),
        lambda z: softmax_cross_entropy(cap * jnp.tanh(z / cap), labels),
        logits,
    )


@pytest.mark.parametrize("wrt", [0, 1])
def test_softmax_cross_entropy_of_probabilities(wrt):
    """``optax.softmax_cross_entropy``, by the logits and by the labels."""
    logits, _ = batch()
    labels = jnp.asarray(np.random.default_rng(1).uniform(size=(3, 5, CLASSES)))
    arrays = [logits, labels]

    def of(function):
        return lambda x: function(*(x if i == wrt else array for i, array in enumerate(arrays)))

    agree(of(lambda z, y: seqloss.sequence_loss(z, y, reduction="none")), of(softmax_cross_entropy), arrays[wrt])
    agree(of(seqloss.sequence_loss), of(lambda z, y: softmax_cross_entropy(z, y).mean()), arrays[wrt])
