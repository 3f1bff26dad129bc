"""JAX: cross entropy against soft labels, and its pullback. The formulas are in ``seqloss.core.contract``.

All classes with the largest logit are used in place of the first one: the formulas hold for each of them, and comparing
is faster than searching. The largest logit is a constant here, because nothing depends on it. It is saved as it was
before the cap, so that it can be found again.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from seqloss.backends.jax import distribution
from seqloss.backends.jax.blocks import total, total_in_any_order
from seqloss.backends.jax.cross_entropy import plus, used
from seqloss.backends.jax.numbers import capped, exp_of_difference, narrowed, slope_of_cap
from seqloss.backends.jax.ops import nan_unless, over_classes
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array


@partial(jax.jit, static_argnums=4)
@over_classes(0, rows=True)
def label_statistics(logits: Array, labels: Array, active: Array | None, prior: Array | None, spec: Spec) -> Statistics:
    x, labels = logits.astype(spec.dtype), labels.astype(spec.dtype)
    if active is not None:
        x, labels = (jnp.where(active[..., None], a, 0) for a in (x, labels))
    highest = _highest(x)
    good = jnp.isfinite(highest)
    # A row without statistics becomes NaN at the end; until then it holds zeros, to keep NaN out of the derivatives.
    x, highest = jnp.where(good[..., None], x, 0), jnp.where(good, highest, 0)
    z, shift = capped(x, spec.softcap), capped(highest, spec.softcap)
    rest = _rest(z, shift, x == highest[..., None])
    tail = jnp.log1p(rest)
    nll = total(labels * (_distances(z, shift, labels == 0) + tail[..., None]))
    unl, mass = None, None
    if spec.unl:
        mean, mass = distribution.mean_below(z, shift, prior, good)
        unl = jnp.where(mass == 0, 0, mean + tail)

    def finished(x: Array | None) -> Array | None:
        return None if x is None else nan_unless(good, x if active is None else jnp.where(active, x, 0))

    nll, lse, unl = (finished(x) for x in (nll, shift + tail if spec.lse else None, unl))
    return Statistics(nll, lse, unl, mass, (highest, nan_unless(good, rest)))


@partial(jax.jit, static_argnums=(7, 8))
@over_classes(1, 2)
def label_pullback(
    cotangents: Cotangents,
    logits: Array,
    labels: Array,
    mass: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
    wrt_labels: bool,
) -> tuple[Array, Array | None]:
    x, y, (highest, rest) = logits.astype(spec.dtype), labels.astype(spec.dtype), statistics.saved
    (to_nll, to_lse, to_unl), replaced = used(cotangents, highest + rest, active)
    x = jnp.where(replaced[..., None], 0, x)
    highest, rest = (jnp.where(replaced, 0, number) for number in (highest, rest))
    shift, whole = capped(highest, spec.softcap), 1 + rest
    z, highest_here = capped(x, spec.softcap), x == highest[..., None]
    e = exp_of_difference(_as_shift(z, shift, highest_here), shift[..., None])
    slope, to_labels = None, jnp.zeros_like(labels) if wrt_labels else None
    if to_nll is not None:
        g = to_nll[..., None]
        # A number that is not finite must not be multiplied by a cotangent of 0; finite ones are needed for
        # d/dcotangent.
        y, mass = (jnp.where((c == 0) & ~jnp.isfinite(a), 0, a) for c, a in ((g, y), (to_nll, mass)))
        slope = g * _difference(e, y, mass[..., None], rest[..., None], highest_here)
        if wrt_labels:
            to_labels = narrowed(g * (_distances(z, shift, g == 0) + jnp.log1p(rest)[..., None]), labels.dtype)
    share = None
    if to_unl is not None:
        to_unl, share = distribution.coefficient(to_unl, jnp.where(replaced, 1, statistics.mass))
    to_both = plus(to_lse, to_unl)
    slope = plus(slope, None if to_both is None else e * (to_both / whole)[..., None], x)
    if share is not None:
        slope = slope - distribution.part(z > -jnp.inf, prior, share)
    if spec.softcap is not None:
        slope = slope * slope_of_cap(x, spec.softcap)
    return narrowed(slope, logits.dtype), to_labels


def _highest(x: Array) -> Array:
    return jnp.max(jax.lax.stop_gradient(x), axis=-1)


def _distances(z: Array, shift: Array, free: Array) -> Array:
    """How far the classes are below the highest; 0 where that is infinite and free, because 0 times infinity is 0."""
    shift = shift[..., None]
    return shift - jnp.where(free & jnp.isinf(shift - z), shift, z)


def _as_shift(z: Array, shift: Array, highest_here: Array) -> Array:
    """``z`` with the very number of the shift at the highest.

    Compiled in two places the cap may differ by a unit (jax 0.10.2).
    """
    own = jnp.where(highest_here, z, 0)
    return jnp.where(highest_here, shift[..., None] + (own - jax.lax.stop_gradient(own)), z)


def _difference(e: Array, labels: Array, mass: Array, rest: Array, highest_here: Array) -> Array:
    """``mass * e / (1 + rest) - labels``; from 1 - p at the highest class if its label is large, lest it cancels."""
    whole = 1 + rest
    against = rest - (e - 1)
    around_1 = highest_here & (2 * jnp.abs(labels) > jnp.abs(mass))
    return jnp.where(around_1, (mass - labels) - mass * (against / whole), mass * (e / whole) - labels)


@jax.custom_jvp
def _rest(z: Array, shift: Array, highest_here: Array) -> Array:
    """The sum of ``exp(z_j - shift)`` but for one class that is the highest. Others that are so count 1."""
    # Around the largest of the others, so that the largest terms are rounded least.
    second = jnp.max(jnp.where(highest_here, -jnp.inf, z), axis=-1)
    second = jnp.where(second > -jnp.inf, second, shift)
    e = jnp.where(highest_here, 0, jnp.exp(jnp.minimum(z - second[..., None], 0)))
    others = total_in_any_order(e) if z.dtype == jnp.float64 else total(e)
    return total(highest_here.astype(z.dtype)) - 1 + others * exp_of_difference(second, shift)


@_rest.defjvp
def _rest_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    z, shift, _ = primals
    return _rest(*primals), jnp.sum(jnp.exp(z - shift[..., None]) * tangents[0], axis=-1)
