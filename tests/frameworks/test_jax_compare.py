"""Comparing what JAX has beside plain arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqloss
from seqloss.testing import compare

X = np.array([[1.5, 0.0], [np.nan, 0.1]], np.float32)


@pytest.mark.parametrize("transformation", [jax.jit, jax.vmap])
def test_a_traced_array_has_no_values(transformation):
    with pytest.raises(seqloss.UnreadableError, match="actual has no values to read"):
        transformation(lambda x: compare(x, x).same)(X)


def test_bfloat16_of_numpy():
    """With JAX comes a NumPy dtype of that name."""
    x = jnp.asarray(X, jnp.bfloat16)
    assert compare(np.asarray(x), x).same
    assert compare(np.asarray(x), X, check_dtype=False).dtype == "bfloat16"
