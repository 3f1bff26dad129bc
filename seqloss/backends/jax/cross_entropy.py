"""JAX: the cross-entropy kernel and its pullback.

The formulas are those of ``seqloss.core.protocol`` with another pivot in the sum: ``s``, the largest logit but that of
the label, so that what counts most in the sum of the others is least rounded. With ``others`` the sum of
``exp(z_j - s)`` over all classes but the label, ``g = t - s`` and ``odds = others exp(-g)``::

    nll   = log(1 + odds)                           where g >= 0
            log(others + exp(g)) - g                elsewhere
    d/dz  = -odds / (1 + odds)                      at the target, where g >= 0
            -others / (others + exp(g))             at the target, elsewhere
            exp(z_j - max(s, t)) / the same         at the others

``TokenStatistics`` holds ``s`` as its shift and ``others`` as its total. All functions are jitted, so that an eager
call is one dispatch, and all may be differentiated: JAX takes second derivatives through the operations written here,
in which ``s`` is a constant, because nothing depends on it.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqloss.backends.jax.ops import nan_unless
from seqloss.backends.jax.rows import at, highest_without, powers_without
from seqloss.core.compensated import difference
from seqloss.core.protocol import SMALLEST_ACTIVE, Array, TokenStatistics


@partial(jax.jit, static_argnums=3)
def token_nll(logits: Array, targets: Array, active: Array | None, dtype: str) -> TokenStatistics:
    z, index, legal = _prepare(logits, targets, dtype)
    t, highest = _pick(z, index), highest_without(jax.lax.stop_gradient(z), index)
    good = legal & jnp.isfinite(jnp.maximum(t, highest))
    # A row without a loss is NaN in the end; numbers meanwhile keep NaN out of the derivatives of what follows.
    t = jnp.where(good, t, 0)
    shift = jnp.where(good & (highest > -jnp.inf), highest, jax.lax.stop_gradient(t))
    others = jnp.where(good, _others(z, index, shift, good), 1)
    odds = _odds(t, shift, others)
    # log1p(x) with less error than XLA's own, where x = whole - 1.
    nll = jnp.log(odds.whole) + jax.lax.stop_gradient((odds.excess - (odds.whole - 1)) / odds.whole)
    nll = nll + odds.behind
    if active is not None:
        nll, good = jnp.where(active, nll, 0), good | ~active
    return TokenStatistics(nan_unless(good, nll), shift, nan_unless(good, others))


@jax.jit
def token_nll_pullback(
    cotangent: Array, logits: Array, targets: Array, active: Array | None, statistics: TokenStatistics
) -> Array:
    nll, shift, others = statistics
    z, index, _ = _prepare(logits, targets, nll.dtype)
    # Only rows that are not finite: for the others d/dcotangent counts at cotangent 0 too.
    replaced = (cotangent == 0) & ~jnp.isfinite(nll + others)
    if active is not None:
        cotangent, replaced = jnp.where(active, cotangent, 0), replaced | ~active
    z = jnp.where(replaced[..., None], 0, z)
    shift, others = (jnp.where(replaced, 1, x) for x in (shift, others))
    t = _pick(z, index)
    odds = _odds(t, shift, others)
    at_target = -cotangent * (odds.against / odds.whole)
    slope = _power(z, jnp.where(t < shift, shift, t)[..., None]) * (cotangent / odds.whole)[..., None]
    return _put(_rounded(slope, logits.dtype), index, _rounded(at_target, logits.dtype))


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


def indices(logits: Array, targets: Array) -> tuple[Array, Array]:
    # At least 32 bits before comparing: int8 labels cannot hold the number of classes. uint32 keeps its own range.
    y = targets if targets.dtype.itemsize >= 4 else targets.astype(jnp.int32)
    legal = (y >= 0) & (y < logits.shape[-1])
    return jnp.where(legal, y, 0).astype(jnp.int32), legal


def _compute_dtype(logits: Array) -> str:
    return "float64" if logits.dtype == jnp.float64 else "float32"


def _prepare(logits: Array, targets: Array, dtype: Any) -> tuple[Array, Array, Array]:
    """Logits in the compute dtype, the label as an index that is always legal, and whether it was."""
    return logits.astype(dtype), *indices(logits, targets)


def _pick(z: Array, index: Array) -> Array:
    return jnp.take_along_axis(z, index[..., None], axis=-1, mode="promise_in_bounds")[..., 0]


def _put(z: Array, index: Array, values: Array) -> Array:
    """``z`` with other entries at the index. Row by row, so that explicitly sharded rows stay where they are."""

    def put(z: Array, index: Array, value: Array) -> Array:
        return z.at[index].set(value, mode="promise_in_bounds")

    for _ in range(index.ndim):
        put = jax.vmap(put)
    return put(z, index, values)


@jax.custom_jvp
def _others(z: Array, index: Array, shift: Array, good: Array) -> Array:
    """The sum of ``exp(z_j - shift)`` over all classes but the label, which may be higher."""
    return powers_without(z, index, shift)


@_others.defjvp
def _others_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    z, index, shift, good = primals
    masked = at(index, z) | ~good[..., None]
    e = jnp.where(masked, 0, jnp.exp(jnp.where(masked, 0, z - shift[..., None])))
    return _others(*primals), jnp.sum(e * tangents[0], axis=-1)


@jax.custom_jvp
def _power(z: Array, pivot: Array) -> Array:
    """``exp(z - pivot)``, where the rounding error of the difference is not lost."""
    # Of minus infinity the error would be NaN, which would be thrown away, and yet be found by those who look for one.
    d, error = difference(jnp.maximum(z, jnp.finfo(z.dtype).min), pivot)
    e = jnp.exp(d)
    return e + e * jnp.where(d > -1000, error, 0)


@_power.defjvp
def _power_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    e = _power(*primals)
    return e, e * (tangents[0] - tangents[1])


class _Odds(NamedTuple):
    """What the others add up to beside the target; the largest of all of them as 1."""

    against: Array
    """The others alone."""
    whole: Array
    """With the target."""
    excess: Array
    """``whole - 1`` before it is rounded."""
    behind: Array
    """How far the target is below the largest."""


def _odds(t: Array, shift: Array, others: Array) -> _Odds:
    gap, error = difference(t, shift)
    below = gap < 0
    # Comparisons instead of abs and maximum, whose derivatives at 0 are between those of both sides.
    size = jnp.where(below, gap, -gap)
    error = jnp.where(size > -1000, jnp.where(below, error, -error), 0)
    # Two factors, because others may be 128,000 and make a normal number of a product that is none without them.
    edge = -700 if gap.dtype == jnp.float64 else -85
    head = jnp.where(size > edge, size, edge)
    near, far = jnp.exp(head), jnp.exp(size - head)
    near = near + near * jax.lax.stop_gradient(error)
    own, odds = near * far, others * near * far
    return _Odds(
        jnp.where(below, others, odds),
        jnp.where(below, others + own, 1 + odds),
        jnp.where(below, (others - 1) + own, odds),
        jnp.where(below, -gap, 0),
    )


def _rounded(x: Array, dtype: Any) -> Array:
    """``x`` in the dtype of the logits. From float64 rounded once, and without subnormal numbers of float32."""
    if x.dtype != jnp.float64 or dtype == jnp.float64:
        return x.astype(dtype)
    x = jnp.where(abs(x) < SMALLEST_ACTIVE, 0, x)
    if dtype != jnp.float32:
        # To odd: a last bit that says whether anything was cut off makes the second rounding right.
        bits = jax.lax.bitcast_convert_type(x, jnp.uint64)
        cut = bits & jnp.uint64(2**29 - 1)
        bits = jnp.where(cut == 0, bits, (bits ^ cut) | jnp.uint64(2**29))
        x = jax.lax.bitcast_convert_type(bits, jnp.float64).astype(jnp.float32)
    return x.astype(dtype)
