"""What JAX adds to the sampled losses: vmap over batches, and second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampled_cases import CLASSES, SAMPLED, draw

from seqloss import sampling
from seqloss.testing import frameworks

SIZES = {"num_sampled": SAMPLED, "num_classes": CLASSES, "num_true": 2, "remove_accidental_hits": True}
LOSSES = [sampling.sampled_softmax_loss, sampling.nce_loss]


def arguments(dtype="float32"):
    weights, biases, labels, inputs, *values = (jnp.asarray(x) for x in draw(4, dtype=dtype))
    return weights, biases, labels, inputs, tuple(values)


@pytest.mark.parametrize("function", LOSSES)
def test_vmap_over_batches(function):
    """Two batches of two: the same values, and the gradients of shared weights add up."""
    weights, biases, labels, inputs, (sampled, of_true, of_sampled) = arguments()

    def total(weights, axes):
        def one(labels, inputs, of_true):
            return function(weights, biases, labels, inputs, **SIZES, sampled_values=(sampled, of_true, of_sampled))

        parts = [x.reshape(2, 2, *x.shape[1:]) if axes else x for x in (labels, inputs, of_true)]
        values = jax.vmap(one)(*parts) if axes else one(*parts)
        return values.sum(), values.reshape(-1)

    (_, whole), gradient = jax.value_and_grad(total, has_aux=True)(weights, False)
    (_, parts), of_parts = jax.jit(jax.value_and_grad(total, has_aux=True), static_argnums=1)(weights, True)
    np.testing.assert_allclose(parts, whole, rtol=1e-6)
    np.testing.assert_allclose(of_parts, gradient, rtol=1e-5, atol=1e-6)


def test_a_bad_label_under_vmap_is_nan():
    weights, biases, labels, inputs, values = arguments()
    labels = labels.at[1, 0].set(CLASSES)

    def one(label, x, count):
        given = values[0], count[None], values[2]
        return sampling.nce_loss(weights, biases, label[None], x[None], **SIZES, sampled_values=given)[0]

    np.testing.assert_array_equal(np.isnan(jax.vmap(one)(labels, inputs, values[1])), [False, True, False, False])


@pytest.mark.parametrize("function", LOSSES)
def test_second_derivatives(function):
    with frameworks.load("jax").precision("float64"):
        weights, biases, labels, inputs, values = arguments("float64")
        direction = jnp.asarray(np.random.default_rng(3).normal(size=weights.shape))

        def along(t):
            loss = function(weights + t * direction, biases, labels, inputs + t, **SIZES, sampled_values=values)
            return loss.sum()

        slope = jax.jit(jax.grad(along))
        difference = (slope(1e-5) - slope(-1e-5)) / 2e-5
        np.testing.assert_allclose(jax.grad(jax.grad(along))(0.0), difference, rtol=1e-6)
