"""JAX: rules as operations, and float64 inside of them whatever JAX is set to."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from seqloss.backends.jax.ops import asarray, to_numpy
from seqloss.core.errors import EXACT_ONCE, BackendError
from seqloss.core.protocol import Array, Rule


def fuse(rule: Rule, arrays: Sequence[Any]) -> Array:
    return _plain(rule, *arrays)


@partial(jax.jit, static_argnums=0)
def _plain(rule: Rule, *arrays: Any) -> Array:
    """One dispatch for an eager call."""
    return rule.plain(*arrays)


# --- float64 for a while ---------------------------------------------------------------------------------------------


def float64() -> AbstractContextManager[Any]:
    return jax.enable_x64(True)


def in_float64(rule: Rule, arrays: Sequence[Any]) -> Array:
    return _exact(rule, *arrays)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _exact(rule: Rule, *arrays: Any) -> Array:
    return _forward(rule, *arrays)[0]


def _exact_forward(rule: Rule, *arrays: Any) -> tuple[Array, Any]:
    value, residuals = _forward(rule, *arrays)
    return value, (arrays, residuals)


def _exact_backward(rule: Rule, saved: Any, cotangent: Array) -> tuple[Any, ...]:
    arrays, residuals = saved
    return _pullback(rule, arrays, residuals, cotangent)


_exact.defvjp(_exact_forward, _exact_backward)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
@partial(jax.jit, static_argnums=0)
def _forward(rule: Rule, *arrays: Any) -> tuple[Array, Any]:
    """The value of a rule and its residuals: float64 as its bits, because transformations know no float64 outside."""
    value, residuals = rule.forward(*_together(arrays))
    with float64():
        return value, jax.tree.map(_hidden, residuals)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
@partial(jax.jit, static_argnums=0)
def _pullback(rule: Rule, arrays: Any, residuals: Any, cotangent: Array) -> Any:
    arrays, residuals, cotangent = _together((arrays, residuals, cotangent))
    with float64():
        residuals = jax.tree.map(_shown, residuals)
    return rule.pullback(arrays, residuals, cotangent)


def _refuse(rule: Rule, primals: Any, tangents: Any) -> Any:
    # Only the derivative of a gradient comes here: to the first one _exact is a whole.
    raise BackendError(EXACT_ONCE)


_forward.defjvp(_refuse)
_pullback.defjvp(_refuse)


def _together(arrays: Any) -> Any:
    """The same, each depending on all: jax.lax.scan moves out of the loop what depends on constants alone."""
    return jax.lax.optimization_barrier(arrays)


def _hidden(x: Array) -> Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint32) if x.dtype == jnp.float64 else x


def _shown(x: Array) -> Array:
    return jax.lax.bitcast_convert_type(x, jnp.float64) if x.dtype == jnp.uint32 else x


# --- arrays in the memory of the host: JAX computes by itself --------------------------------------------------------


def on_host(arrays: Sequence[Any]) -> bool:
    return False


def to_host(x: Array) -> Any:
    return to_numpy(x)


def from_host(x: Any, dtype: str, like: Array) -> Array:
    return asarray(x, like=like)


def threads() -> int | None:
    return None
