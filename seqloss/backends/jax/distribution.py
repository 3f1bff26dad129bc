"""JAX: the prior on the possible classes, as ``unl`` needs it: see :mod:`seqloss.core.contract`.

All take logits [..., classes] in the compute dtype, and the prior [classes] or None for ones.
"""

from typing import Any

import jax
import jax.numpy as jnp

from seqloss.backends.jax.blocks import totals
from seqloss.backends.jax.ops import take
from seqloss.core.protocol import Array


@jax.custom_jvp
def mean_below(z: Array, highest: Array, prior: Array | None, good: Array) -> tuple[Array, Array]:
    """The sum of q_j (highest - z_j), where q is the prior made to add up to 1, and the mass, which has no derivative.

    Where the row is not good, both can be any number, with a derivative of 0.
    """
    # Halves, whose difference does not overflow before 0 has taken away what is impossible. Divided one by one: logits
    # may be so low that their sum is infinite. By a mass that is not known yet, what is divided by all of the prior.
    least, whole = jnp.finfo(z.dtype).min, z.shape[-1] if prior is None else jnp.sum(prior)
    whole = jnp.where(whole > 0, whole, 1)

    def terms(z: Array, prior: Array | None, some: Array | None, highest: Array) -> tuple[Array, Array]:
        # Infinite where it overflows, like the plain difference. No factor of 2 of its own, which XLA (jax 0.10.2)
        # would make one of with a constant behind it.
        twice = _twice_possible(z)
        half = highest / 2 - jnp.maximum(z, least) / 2
        if prior is None:
            return twice, half * twice / whole
        # Classes that the prior leaves out are removed before an infinite distance could be multiplied by their 0.
        return twice * prior, half * (twice * some) * (prior / whole)

    some = None if prior is None else jnp.where(prior > 0, 1, prior)
    twice, mean = totals(terms, z, (prior, some), highest)
    mass = jnp.where(good, twice / 2, 0)
    return jnp.where(mass > 0, mean * (whole / jnp.where(mass > 0, mass, 1)), 0), mass


@mean_below.defjvp
def _mean_below_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    z, _, prior, good = primals
    mean, mass = mean_below(*primals)
    scale = jnp.where(good & (mass > 0), 1 / jnp.where(mass > 0, mass, 1), 0)
    shares = jnp.where(z > -jnp.inf, _prior_of(z > -jnp.inf, prior, z.dtype) * scale[..., None], 0)
    slope = jnp.sum(shares * (tangents[1][..., None] - tangents[0]), axis=-1)
    return (mean, mass), (slope, jnp.zeros_like(mass))


def coefficient(cotangent: Array, mass: Array) -> tuple[Array, Array]:
    """The cotangent of ``unl``, 0 where no class is possible, and the factor of the prior."""
    cotangent = jnp.where(mass == 0, 0, cotangent)
    return cotangent, cotangent / jnp.where(mass == 0, 1, mass)


def part(possible: Array, prior: Array | None, coefficient: Array) -> Array:
    """What the prior takes away from the gradient of each class."""
    # Selected, because the prior may be NaN.
    coefficient = coefficient[..., None]
    return jnp.where(coefficient == 0, 0, _prior_of(possible, prior, coefficient.dtype) * coefficient)


def part_at(t: Array, index: Array, prior: Array | None, coefficient: Array) -> Array:
    """The same for one class of each token, whose logit is t."""
    own = coefficient if prior is None else coefficient * take(prior, index)
    return jnp.where((t > -jnp.inf) & (coefficient != 0), own, 0)


def _twice_possible(z: Array) -> Array:
    """2 where z is finite, 0 where it is -infinity.

    By arithmetic: with a comparison XLA (jax 0.10.2) does not vectorise the sum of these.
    """
    # Scaled, each finite number is above -2**28. Not scaled by more: subnormal numbers are slow.
    scale = 2.0 ** (28 - jnp.finfo(z.dtype).maxexp)
    return jnp.minimum(jnp.maximum(2.0**29 + z * scale, 0), 2)


def _prior_of(possible: Array, prior: Array | None, dtype: Any) -> Array:
    """The prior of the possible classes, 0 for the others."""
    return jnp.where(possible, jnp.ones((), dtype) if prior is None else _row(prior, possible), 0)


def _row(prior: Array, like: Array) -> Array:
    return prior.reshape(*(1 for _ in like.shape[:-1]), -1)
