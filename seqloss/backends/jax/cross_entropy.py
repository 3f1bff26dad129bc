"""JAX: the cross-entropy kernel and its pullback. The formulas stand in ``seqloss.core.protocol``.

Both functions are jitted, so that an eager call is one dispatch, and both may be differentiated: JAX takes second
derivatives through the operations written here.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from seqloss.core.protocol import Array, TokenStatistics


@partial(jax.jit, static_argnums=3)
def token_nll(logits: Array, targets: Array, active: Array | None, dtype: str) -> TokenStatistics:
    z, index, valid = _prepare(logits, targets, dtype)
    highest = jax.lax.stop_gradient(jnp.max(z, axis=-1))
    # A row without a loss is NaN in the end; zeros meanwhile keep NaN out of the derivatives of what follows.
    good = valid & jnp.isfinite(highest)
    z = jnp.where(good[..., None], z, 0)
    t = jnp.take_along_axis(z, index[..., None], axis=-1)[..., 0]
    # Where the target is the largest, its own logit is the pivot, with its derivative; elsewhere a constant is.
    shift = jnp.where(t == highest, t, highest)
    e = jnp.exp(z - shift[..., None])
    rest = jnp.sum(jnp.where(_at(index, z), 0, e), axis=-1)
    gap = t - shift
    excess = rest + jnp.expm1(gap)
    nll = jnp.log1p(excess) - gap
    nll = jnp.where(good, nll, jnp.nan)
    if active is not None:
        nll = jnp.where(active, nll, 0)
    return TokenStatistics(nll, shift, jnp.where(good, excess + 1, jnp.nan))


@jax.jit
def token_nll_pullback(
    cotangent: Array, logits: Array, targets: Array, active: Array | None, statistics: TokenStatistics
) -> Array:
    z, index, _ = _prepare(logits, targets, statistics.nll.dtype)
    nll, shift, total = statistics
    if active is not None:
        cotangent = jnp.where(active, cotangent, 0)
    # Only rows that are not finite: for the others d/dcotangent counts at cotangent 0 too.
    replaced = (cotangent == 0) & ~jnp.isfinite(nll + total)
    z = jnp.where(replaced[..., None], 0, z)
    nll, shift, total = (jnp.where(replaced, 1, x) for x in (nll, shift, total))
    slope = jnp.exp(z - shift[..., None]) / total[..., None]
    at_target = jnp.where(jnp.isnan(total), jnp.nan, jnp.expm1(-nll))
    slope = jnp.where(_at(index, z), at_target[..., None], slope)
    return (cotangent[..., None] * slope).astype(logits.dtype)


@jax.custom_vjp
def differentiable_token_nll(logits: Array, targets: Array, active: Array | None) -> Array:
    """The kernel as an operation that JAX differentiates with its pullback."""
    return token_nll(logits, targets, active, _compute_dtype(logits)).nll


def _forward(logits: Array, targets: Array, active: Array | None) -> tuple[Array, Any]:
    statistics = token_nll(logits, targets, active, _compute_dtype(logits))
    return statistics.nll, (logits, targets, active, statistics)


def _backward(residuals: Any, cotangent: Array) -> tuple[Array, None, None]:
    return token_nll_pullback(cotangent, *residuals), None, None


differentiable_token_nll.defvjp(_forward, _backward)


def _at(index: Array, z: Array) -> Array:
    """Where the class axis is at the index."""
    return jax.lax.broadcasted_iota(index.dtype, z.shape, z.ndim - 1) == index[..., None]


def _compute_dtype(logits: Array) -> str:
    return "float64" if logits.dtype == jnp.float64 else "float32"


def _prepare(logits: Array, targets: Array, dtype: Any) -> tuple[Array, Array, Array]:
    """Logits in the compute dtype, the label as an index that is always legal, and whether it was."""
    z = logits.astype(dtype)
    # At least 32 bits before comparing: int8 labels cannot hold the number of classes. uint32 keeps its own range.
    y = targets if targets.dtype.itemsize >= 4 else targets.astype(jnp.int32)
    valid = (y >= 0) & (y < z.shape[-1])
    return z, jnp.where(valid, y, 0).astype(jnp.int32), valid
