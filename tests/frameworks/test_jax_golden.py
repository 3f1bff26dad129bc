"""Recording what JAX has beside plain arrays."""

import jax
import jax.numpy as jnp
import pytest

from seqloss.testing import GoldenError, golden


def test_a_traced_array_has_no_values(tmp_path):
    with pytest.raises(GoldenError, match=r"x is a \w+ that has no values for NumPy to take"):
        jax.jit(lambda x: golden.write(tmp_path / "x", {"x": x}, {"y": 0.0}))(jnp.zeros(2))
    assert list(tmp_path.iterdir()) == []


def test_float8_is_not_for_everybody(tmp_path):
    with pytest.raises(GoldenError, match="x is an array of float8_e4m3fn, which other programs could not read"):
        golden.write(tmp_path / "x", {"x": jnp.zeros(2, jnp.float8_e4m3fn)}, {"y": 0.0})


def test_versions_tell_jax(tmp_path):
    assert golden.read(golden.write(tmp_path / "x", {"x": jnp.zeros(2)}, {"y": 0.0})).versions["jax"] == jax.__version__
