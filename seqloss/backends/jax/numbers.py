"""JAX: casts of the kernels' numbers to and from their dtypes, and functions that lose no digits.

The others are made of operations that JAX differentiates; where these would be wrong or lose digits, the derivative
is written down.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqloss.backends.compensated import difference
from seqloss.backends.jax.blocks import LOWEST, powers
from seqloss.core.contract import SMALLEST_ACTIVE
from seqloss.core.protocol import Array


def narrowed(x: Array, dtype: Any) -> Array:
    """``x`` in the dtype of the logits. From float64 rounded once, and without subnormal numbers of float32."""
    if x.dtype != jnp.float64 or dtype == jnp.float64:
        return x.astype(dtype)
    x = jnp.where(abs(x) < SMALLEST_ACTIVE, 0, x)
    if dtype != jnp.float32:
        # Round to odd: the last bit then says whether anything was cut off, which makes the second rounding right.
        bits = jax.lax.bitcast_convert_type(x, jnp.uint64)
        cut = bits & jnp.uint64(2**29 - 1)
        bits = jnp.where(cut == 0, bits, (bits ^ cut) | jnp.uint64(2**29))
        x = jax.lax.bitcast_convert_type(bits, jnp.float64).astype(jnp.float32)
    return x.astype(dtype)


@jax.custom_jvp
def exp_of_difference(z: Array, pivot: Array) -> Array:
    """``exp(z - pivot)``, where the rounding error of the difference is not lost."""
    # For minus infinity the error would be NaN. It would be thrown away, but people who look for NaN would find it.
    d, error = difference(jnp.maximum(z, jnp.finfo(z.dtype).min), pivot)
    e = jnp.exp(d)
    return e + e * jnp.where(d > -1000, error, 0)


@exp_of_difference.defjvp
def _exp_of_difference_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    e = exp_of_difference(*primals)
    return e, e * (tangents[0] - tangents[1])


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def powers_or_none(z: Array, highest: Array, nothing: Array, marked: bool) -> tuple[Array, Array, Array]:
    """``exp(z - highest)`` with its rounding errors as a number and its divisor, and which classes are possible.

    0 in rows of nothing whatever these hold. Above the highest it is any number. The divisor is one of a row.
    """
    e, near, far = powers(z, highest, marked)
    possible = z > -jnp.inf
    if z.dtype == jnp.float64:
        # Of minus infinity the error would be NaN. What has a power is not so far below.
        _, error = difference(jnp.maximum(z, highest[..., None] - 1000), highest[..., None])
        e = e + e * error
    elif marked:
        possible = e > 0
        e = jnp.where(e > jnp.exp(jnp.float32(LOWEST)) * 1.0001, e, 0)
    return jnp.where(nothing[..., None], 0, e * near[..., None]), jnp.where(nothing, 1, far), possible


@powers_or_none.defjvp
def _powers_or_none_jvp(marked: bool, primals: Any, tangents: Any) -> tuple[Any, Any]:
    e, far, possible = powers_or_none(*primals, marked)
    slope = e * (tangents[0] - tangents[1][..., None])
    return (e, far, possible), (slope, jnp.zeros_like(far), np.zeros(possible.shape, jax.dtypes.float0))


def log_of_one_more(excess: Array, whole: Array) -> Array:
    """log1p(excess) with less error than that of XLA (jax 0.10.2).

    It is differentiated in ``whole``, which is ``1 + excess`` rounded.
    """
    return jnp.log(whole) + jax.lax.stop_gradient((excess - (whole - 1)) / whole)


def capped(x: Array, softcap: float | None) -> Array:
    """The logits that the contract is about: ``softcap * tanh(x / softcap)``; infinities stay what they are."""
    return x if softcap is None else _capped(softcap, x)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _capped(softcap: float, x: Array) -> Array:
    # In float32 too: where its results are large, XLA's tanh (jax 0.10.2) is off by four units.
    v = jnp.expm1(-2 * (abs(x) / softcap))
    z = softcap * (v / (2 + v))
    return jnp.where(jnp.isinf(x), x, jnp.where(x < 0, z, -z))


@_capped.defjvp
def _capped_jvp(softcap: float, primals: Any, tangents: Any) -> tuple[Array, Array]:
    return _capped(softcap, *primals), slope_of_cap(primals[0], softcap) * tangents[0]


def slope_of_cap(x: Array, softcap: float) -> Array:
    """The derivative of :func:`capped`."""
    # 0 at NaN, which takes no derivative away that is NaN, and makes none of what is 0.
    x = jnp.where(jnp.isnan(x), jnp.inf, x)
    # A comparison instead of abs, whose derivative at 0 is between those of the two sides.
    e = jnp.exp(-2 * (jnp.where(x < 0, -x, x) / softcap))
    return 4 * e / (1 + e) ** 2
