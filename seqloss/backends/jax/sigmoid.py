"""JAX: cross entropy of independent classes, and its pullback. The formulas are in ``seqloss.core.contract``."""

from functools import partial

import jax
import jax.numpy as jnp

from seqloss.backends.jax.ops import nan_unless
from seqloss.core.protocol import Array


@jax.jit
def sigmoid_nll(logits: Array, labels: Array, pos_weight: Array | None) -> Array:
    x = _prepare(logits)
    # An entry without a loss becomes NaN at the end; until then it is 0, to keep NaN out of the derivatives of what
    # follows.
    bad = jnp.isnan(x)
    x = jnp.where(bad, 0, x)
    against, along = 1 - labels, labels if pos_weight is None else pos_weight * labels
    # Infinite logits whose label has the factor 0 are replaced before the product: 0 times infinity is 0 here.
    one = against * _softplus(jnp.where((against == 0) & jnp.isinf(x), 0, x))
    other = along * _softplus(jnp.where((along == 0) & jnp.isinf(x), 0, -x))
    return nan_unless(~bad, one + other)


@partial(jax.jit, static_argnums=4)
def sigmoid_pullback(
    cotangent: Array, logits: Array, labels: Array, pos_weight: Array | None, wrt_labels: bool
) -> tuple[Array, Array | None, Array | None]:
    x, g = _prepare(logits), cotangent
    # Only where it is not finite: elsewhere d/dcotangent is needed at cotangent 0 too.
    x, labels = (jnp.where((g == 0) & ~jnp.isfinite(a), 0, a) for a in (x, labels))
    if pos_weight is not None:
        pos_weight = jnp.where((g == 0) & ~jnp.isfinite(pos_weight), 0, pos_weight)
    up, down = _sigmoid(x), _sigmoid(-x)
    along = labels if pos_weight is None else pos_weight * labels
    to_logits = (g * jnp.where(jnp.isnan(x), x, (1 - labels) * up - along * down)).astype(logits.dtype)
    if not wrt_labels:
        return to_logits, None, None
    if pos_weight is None:
        return to_logits, -g * x, None
    tail, slope = jnp.log1p(jnp.exp(jnp.where(x >= 0, -x, x))), jnp.where(x >= 0, 1, pos_weight)
    # The cotangent first: a product that overflows without it must not do so with a cotangent of 0.
    to_labels = g * (pos_weight - 1) * tail - g * slope * jnp.where((slope == 0) & jnp.isinf(x), 0, x)
    asked = _softplus(jnp.where((labels == 0) & jnp.isinf(x), 0, -x))
    return to_logits, to_labels, g * (labels * asked)


def _softplus(x: Array) -> Array:
    """log(1 + exp(x)). Both branches at 0 have the slope 1/2, because the sign is taken from a comparison."""
    return jnp.where(x >= 0, x, 0) + jnp.log1p(jnp.exp(jnp.where(x >= 0, -x, x)))


def _sigmoid(x: Array) -> Array:
    e = jnp.exp(jnp.where(x >= 0, -x, x))
    return jnp.where(x >= 0, 1, e) / (1 + e)


def _prepare(logits: Array) -> Array:
    return logits if logits.dtype == jnp.float64 else logits.astype(jnp.float32)
