"""JAX: cross entropy against soft labels, and its pullback. The formulas stand in ``seqloss.core.protocol``."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from seqloss.backends.jax.ops import nan_unless
from seqloss.core.protocol import Array, LabelStatistics


@jax.jit
def softmax_nll(logits: Array, labels: Array) -> LabelStatistics:
    z = _prepare(logits)
    # A row without a loss is NaN in the end; zeros meanwhile keep NaN out of the derivatives of what follows.
    good = jnp.isfinite(jnp.max(z, axis=-1))[..., None]
    z = jnp.where(good, z, 0)
    index, at = _highest(z)
    shift = jnp.take_along_axis(z, index, axis=-1)
    rest = jnp.sum(jnp.where(at, 0, jnp.exp(z - shift)), axis=-1, keepdims=True)
    # A class that cannot happen and is not asked for costs nothing: 0 times infinity is 0 here.
    possible = jnp.where((labels == 0) & jnp.isinf(shift - z), shift, z)
    nll = jnp.sum(labels * ((shift - possible) + jnp.log1p(rest)), axis=-1, keepdims=True)
    nll, rest = (nan_unless(good, x) for x in (nll, rest))
    return LabelStatistics(nll[..., 0], shift[..., 0], rest[..., 0])


@functools.partial(jax.jit, static_argnums=5)
def softmax_nll_pullback(
    cotangent: Array, logits: Array, labels: Array, mass: Array, statistics: LabelStatistics, wrt_labels: bool
) -> tuple[Array, Array | None]:
    z = _prepare(logits)
    g, mass, shift, rest = (x[..., None] for x in (cotangent, mass, statistics.shift, statistics.rest))
    # Only rows that are not finite: for the others d/dcotangent counts at cotangent 0 too.
    replaced = (g == 0) & ~jnp.isfinite(shift + rest)
    z, shift, rest = (jnp.where(replaced, 0, x) for x in (z, shift, rest))
    labels, mass = (jnp.where((g == 0) & ~jnp.isfinite(x), 0, x) for x in (labels, mass))
    _, at = _highest(z)
    elsewhere = mass * (jnp.exp(z - shift) / (1 + rest)) - labels
    to_logits = g * jnp.where(at, (mass - labels) - mass * (rest / (1 + rest)), elsewhere)
    # A class that cannot happen has an infinite cost, which 0 must remove as well.
    possible = jnp.where((g == 0) & jnp.isinf(shift - z), shift, z)
    to_labels = g * ((shift - possible) + jnp.log1p(rest)) if wrt_labels else None
    return to_logits.astype(logits.dtype), to_labels


@jax.custom_vjp
def differentiable_softmax_nll(logits: Array, labels: Array, mass: Array) -> Array:
    """The kernel as an operation that JAX differentiates with its pullback."""
    return softmax_nll(logits, labels).nll


def _forward(logits: Array, labels: Array, mass: Array) -> tuple[Array, Any]:
    statistics = softmax_nll(logits, labels)
    return statistics.nll, (logits, labels, mass, statistics)


def _backward(residuals: Any, cotangent: Array) -> tuple[Array, Array | None, Array]:
    to_logits, to_labels = softmax_nll_pullback(cotangent, *residuals, True)
    return to_logits, to_labels, jnp.zeros_like(residuals[2])


differentiable_softmax_nll.defvjp(_forward, _backward)


def _highest(z: Array) -> tuple[Array, Array]:
    """The place of the highest logit, [..., 1], and where the class axis is there."""
    index = jnp.argmax(z, axis=-1, keepdims=True)
    return index, jax.lax.broadcasted_iota(index.dtype, z.shape, z.ndim - 1) == index


def _prepare(logits: Array) -> Array:
    return logits if logits.dtype == jnp.float64 else logits.astype(jnp.float32)
