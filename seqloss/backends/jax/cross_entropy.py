"""JAX: the cross-entropy kernel and its pullback. The formulas are in ``seqloss.core.contract``.

``s`` is the largest logit without that of the label, in float32 too. It is saved for the pullback, together with
``others``, which is ``r``. Both passes use the same exponentials: in one program XLA takes them once, in the memory of
the gradient.

All functions are jitted, so that an eager call is one dispatch, and all may be differentiated: JAX takes second
derivatives through the operations written here, in which ``s`` is a constant, because nothing depends on it.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqloss.backends.compensated import difference
from seqloss.backends.jax import distribution
from seqloss.backends.jax.blocks import at, highest_without, powers_without, put
from seqloss.backends.jax.numbers import capped, log_of_one_more, narrowed, powers_or_none, slope_of_cap
from seqloss.backends.jax.ops import nan_unless, over_classes
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array


def indices(logits: Array, targets: Array) -> tuple[Array, Array]:
    # At least 32 bits before comparing: int8 labels cannot hold the number of classes. uint32 keeps its own range.
    y = targets if targets.dtype.itemsize >= 4 else targets.astype(jnp.int32)
    legal = (y >= 0) & (y < logits.shape[-1])
    return jnp.where(legal, y, 0).astype(jnp.int32), legal


@jax.jit
@over_classes(0, rows=True)
def is_highest(logits: Array, targets: Array) -> Array:
    # One pass that stores nothing. XLA (jax 0.10.2) takes eight times as long for an argmax on a CPU.
    index, legal = indices(logits, targets)
    own, index = _pick(logits, index)[..., None], index[..., None]
    classes = jax.lax.broadcasted_iota(index.dtype, logits.shape, logits.ndim - 1)
    # Not "is above", which is False beside NaN.
    is_beaten = ~jnp.where(classes < index, logits < own, logits <= own)
    return legal & ~jnp.any(is_beaten, axis=-1)


@partial(jax.jit, static_argnums=4)
@over_classes(0, rows=True)
def token_statistics(
    logits: Array, targets: Array, active: Array | None, prior: Array | None, spec: Spec
) -> Statistics:
    x, (index, legal) = logits.astype(spec.dtype), indices(logits, targets)
    t = capped(_pick(x, index), spec.softcap)
    highest = capped(highest_without(jax.lax.stop_gradient(x), index), spec.softcap)
    good = legal & jnp.isfinite(jnp.maximum(t, highest))
    # A row without statistics becomes NaN at the end; until then it holds numbers, to keep NaN out of the derivatives.
    t = jnp.where(good, t, 0)
    some = good & (highest > -jnp.inf)
    shift = jnp.where(some, highest, jax.lax.stop_gradient(t))
    z = capped(x, spec.softcap)
    others = jnp.where(good, jnp.where(some, _others(z, index, t, shift, good, spec.unl), 0), 1)
    odds = _odds(t, shift, others)
    tail = log_of_one_more(odds.excess, odds.whole)
    pivot = jnp.where(t < shift, shift, t)
    unl, mass = None, None
    if spec.unl:
        mean, mass = distribution.mean_below(z, pivot, prior, good)
        unl = jnp.where(mass == 0, 0, mean + tail)

    def finished(x: Array | None) -> Array | None:
        return None if x is None else nan_unless(known, x if active is None else jnp.where(active, x, 0))

    known = good if active is None else good | ~active
    lse = pivot + tail if spec.lse else None
    nll, lse, unl = (finished(x) for x in (tail + odds.behind, lse, unl))
    return Statistics(nll, lse, unl, mass, (shift, nan_unless(known, others)))


@partial(jax.jit, static_argnums=6)
@over_classes(1)
def token_pullback(
    cotangents: Cotangents,
    logits: Array,
    targets: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
) -> Array:
    x, (index, _), (shift, others) = logits.astype(spec.dtype), indices(logits, targets), statistics.saved
    (to_nll, to_lse, to_unl), replaced = used(cotangents, others, active)
    z, own_x = capped(x, spec.softcap), jnp.where(replaced, 0, _pick(x, index))
    slope, divisor, possible = powers_or_none(z, shift, replaced, spec.unl)
    shift, others = (jnp.where(replaced, 1, number) for number in (shift, others))
    t = capped(own_x, spec.softcap)
    odds = _odds(t, shift, others)
    share = None
    if to_unl is not None:
        to_unl, share = distribution.coefficient(to_unl, jnp.where(replaced, 1, statistics.mass))
    to_both = plus(to_lse, to_unl)
    slope = slope * (plus(to_nll, to_both, odds.whole) * odds.unit / odds.whole / divisor)[..., None]
    own_slope = plus(
        None if to_nll is None else -to_nll * (odds.against / odds.whole),
        None if to_both is None else to_both * (odds.own / odds.whole),
        odds.whole,
    )
    if share is not None:
        slope = slope - distribution.part(possible, prior, share)
        own_slope = own_slope - distribution.part_at(t, index, prior, share)
    if spec.softcap is not None:
        slope, own_slope = slope * slope_of_cap(x, spec.softcap), own_slope * slope_of_cap(own_x, spec.softcap)
    return put(narrowed(slope, logits.dtype), index, narrowed(own_slope, logits.dtype))


def used(cotangents: Cotangents, finite: Array, active: Array | None) -> tuple[tuple[Array | None, ...], Array]:
    """The cotangents of active tokens, and which rows to replace because they reach nothing.

    Of those without a cotangent only the ones that are not finite: for the others d/dcotangent counts there too.
    """
    nothing = jnp.ones_like(finite, dtype=bool)
    for cotangent in cotangents:
        nothing = nothing if cotangent is None else nothing & (cotangent == 0)
    replaced = nothing & ~jnp.isfinite(finite)
    if active is None:
        return tuple(cotangents), replaced
    return tuple(g if g is None else jnp.where(active, g, 0) for g in cotangents), replaced | ~active


def plus(one: Array | None, other: Array | None, like: Array | None = None) -> Any:
    """The sum of both, where None is 0: in the shape of an array, or None."""
    if one is None or other is None:
        known = other if one is None else one
        return jnp.zeros_like(like) if known is None and like is not None else known
    return one + other


def _pick(z: Array, index: Array) -> Array:
    return jnp.take_along_axis(z, index[..., None], axis=-1, mode="promise_in_bounds")[..., 0]


@partial(jax.custom_jvp, nondiff_argnums=(5,))
def _others(z: Array, index: Array, t: Array, shift: Array, good: Array, marked: bool) -> Array:
    """The sum of ``exp(z_j - shift)`` over all classes but the label, which may be higher."""
    return powers_without(z, index, t, shift, marked)


@_others.defjvp
def _others_jvp(marked: bool, primals: Any, tangents: Any) -> tuple[Array, Array]:
    z, index, _, shift, good = primals
    masked = at(index, z) | ~good[..., None]
    e = jnp.where(masked, 0, jnp.exp(jnp.where(masked, 0, z - shift[..., None])))
    return _others(*primals, marked), jnp.sum(e * tangents[0], axis=-1)


class _Odds(NamedTuple):
    """What the others add up to beside the target; the largest of all of them as 1."""

    own: Array
    """The target alone."""
    against: Array
    """The others alone."""
    whole: Array
    """Both."""
    excess: Array
    """``whole - 1`` before it is rounded."""
    unit: Array
    """The largest of the others."""
    behind: Array
    """How far the target is below the largest."""


def _odds(t: Array, shift: Array, others: Array) -> _Odds:
    # For minus infinity the error would be NaN. It would be thrown away, but people who look for NaN would find it.
    gap, error = difference(jnp.maximum(t, jnp.finfo(t.dtype).min), shift)
    below = gap < 0
    # Comparisons instead of abs and maximum, whose derivatives at 0 are between those of the two sides.
    size = jnp.where(below, gap, -gap)
    error = jnp.where(size > -1000, jnp.where(below, error, -error), 0)
    # Two factors: the others may be 128,000, which makes a normal number of a product that is subnormal without them.
    edge = -700 if gap.dtype == jnp.float64 else -85
    head = jnp.where(size > edge, size, edge)
    near, far = jnp.exp(head), jnp.exp(size - head)
    near = near + near * jax.lax.stop_gradient(error)
    power, odds = near * far, others * near * far
    return _Odds(
        jnp.where(below, power, 1),
        jnp.where(below, others, odds),
        jnp.where(below, others + power, 1 + odds),
        jnp.where(below, (others - 1) + power, odds),
        jnp.where(below, 1, power),
        jnp.where(below, jnp.where(t > -jnp.inf, -gap, jnp.inf), 0),
    )
