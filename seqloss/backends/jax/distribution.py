"""JAX: the prior on the possible classes, as ``unl`` needs it: see :mod:`seqloss.core.contract`.

All take logits [..., classes] in the compute dtype, and the prior [classes] or None for ones.
"""

from typing import Any

import jax
import jax.numpy as jnp

from seqloss.backends.jax.blocks import total
from seqloss.backends.jax.ops import take
from seqloss.core.protocol import Array


def mass(z: Array, prior: Array | None) -> Array:
    """The sum of the prior over the possible classes. It has no derivative."""
    return jax.lax.stop_gradient(total(_possible(z, prior)))


def spread(z: Array, highest: Array, prior: Array | None, mass: Array, good: Array) -> Array:
    """The sum of q_j (highest - z_j), where q is the prior made to add up to 1; 0 where it cannot be.

    Where the row is not good, it is anything, with a derivative of 0.
    """
    return _spread(z, highest, prior, jnp.where(good & (mass > 0), 1 / jnp.where(mass > 0, mass, 1), 0))


@jax.custom_jvp
def _spread(z: Array, highest: Array, prior: Array | None, scale: Array) -> Array:
    # Scaled one by one: logits may be so low that their sum is infinite.
    distance = (highest[..., None] - jnp.where(z > -jnp.inf, z, highest[..., None])) * scale[..., None]
    return total(distance if prior is None else distance * _row(prior, z))


@_spread.defjvp
def _spread_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    z, _, prior, scale = primals
    shares = jnp.where(z > -jnp.inf, _possible(z, prior) * scale[..., None], 0)
    return _spread(*primals), jnp.sum(shares * (tangents[1][..., None] - tangents[0]), axis=-1)


def coefficient(cotangent: Array, mass: Array) -> tuple[Array, Array]:
    """The cotangent of ``unl``, which is 0 where nothing is possible, and what the prior is multiplied with."""
    cotangent = jnp.where(mass == 0, 0, cotangent)
    return cotangent, cotangent / jnp.where(mass == 0, 1, mass)


def part(z: Array, prior: Array | None, coefficient: Array) -> Array:
    """What the prior takes away from the gradient of each class."""
    # Selected, because the prior may be NaN.
    return jnp.where(coefficient[..., None] == 0, 0, _possible(z, prior) * coefficient[..., None])


def part_at(t: Array, index: Array, prior: Array | None, coefficient: Array) -> Array:
    """The same for one class of each token, whose logit is t."""
    own = coefficient if prior is None else coefficient * take(prior, index)
    return jnp.where((t > -jnp.inf) & (coefficient != 0), own, 0)


def _possible(z: Array, prior: Array | None) -> Array:
    """The prior of the possible classes, 0 for the others."""
    return jnp.where(z > -jnp.inf, jnp.ones((), z.dtype) if prior is None else _row(prior, z), 0)


def _row(prior: Array, z: Array) -> Array:
    return prior.reshape(*(1 for _ in z.shape[:-1]), -1)
