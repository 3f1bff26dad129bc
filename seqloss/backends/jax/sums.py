"""JAX: sums with twice the digits, and their quotients. There may be no float64, so a sum is a pair of numbers."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqloss.backends import compensated
from seqloss.core.protocol import Array


class _Wide(NamedTuple):
    """A sum rounded, and what was cut off. The first has the derivative of the plain sum, the second has none."""

    value: Array
    rest: Array


@partial(jax.jit, static_argnames="axis")
def wide_sum(x: Array, weights: Array | None, *, axis: tuple[int, ...]) -> _Wide:
    factors = (x, None if weights is None else weights.astype(x.dtype))
    plain = jnp.sum(x if weights is None else x * factors[1], axis=axis)
    zero = np.zeros((), x.dtype)
    pairs = _products(*jax.lax.stop_gradient(factors))
    value, rest = jax.lax.reduce(pairs, (zero, zero), _added, [i % x.ndim for i in axis])
    value, rest = compensated.difference(value, -rest)
    # The plain sum is needed too: otherwise XLA (jax 0.10.2) computes the losses inside the other reduction, not
    # vectorised. A result that is used twice is computed before.
    return _Wide(_instead(plain, value), jnp.where(jnp.isfinite(value) & jnp.isfinite(plain), rest, 0))


def quotient(numerator: _Wide, denominator: Any) -> Array:
    dtype = numerator.value.dtype
    if isinstance(denominator, (int, float)):
        whole = np.asarray(denominator, dtype)
        denominator = _Wide(whole, np.asarray(denominator - whole.item(), dtype))
    elif not isinstance(denominator, _Wide):
        denominator = _Wide(denominator.astype(dtype), np.zeros((), dtype))
    return _quotient(numerator, denominator)


@jax.jit
def _quotient(numerator: _Wide, denominator: _Wide) -> Array:
    empty = denominator.value == 0
    divisor = denominator._replace(value=jnp.where(empty, 1, denominator.value))
    plain = numerator.value / divisor.value
    return jnp.where(empty, 0, _instead(plain, _refined(*jax.lax.stop_gradient((plain, numerator, divisor)))))


def _refined(quotient: Array, numerator: _Wide, divisor: _Wide) -> Array:
    """A quotient after one step of iterative refinement: with what is left over when it is taken away."""
    known = _is_moderate(quotient) & _is_moderate(numerator.value) & _is_moderate(divisor.value)
    given, value = (jnp.where(known, x, 0) for x in (quotient, numerator.value))
    product, cut = _products(given, jnp.where(known, divisor.value, 1))
    left = ((value - product) - cut) + (numerator.rest - given * divisor.rest)
    return quotient + jnp.where(known, left, 0) / divisor.value


def _products(x: Array, weights: Array | None) -> tuple[Array, Array]:
    """The products rounded, and what was cut off from each, if they are not so large that this is infinite."""
    if weights is None:
        return x, jnp.zeros_like(x)
    known = _is_moderate(x) & _is_moderate(weights) & _is_moderate(x * weights)
    # XLA (jax 0.10.2) must not compute the product twice, with a different number of roundings.
    known, product = jax.lax.optimization_barrier((known, x * weights))
    one, other = (jnp.where(known, factor, 0) for factor in (x, weights))
    return jax.lax.optimization_barrier((product, compensated.product(one, other, str(x.dtype))[1]))


def _is_moderate(x: Array) -> Array:
    return abs(x) < (2.0**100 if x.dtype == jnp.float32 else 2.0**900)


def _added(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    """Sums of numbers and of what was cut off from them."""
    (a_total, a_cut), (b_total, b_cut) = a, b
    total, cut = compensated.difference(a_total, -b_total)
    # Brought together each time: what was cut off may grow as large as the sum, where all numbers but a few are small.
    total, cut = compensated.difference(total, -(a_cut + b_cut + jnp.where(jnp.isfinite(total), cut, 0)))
    return total, jnp.where(jnp.isfinite(total), cut, 0)


@jax.custom_jvp
def _instead(plain: Array, exact: Array) -> Array:
    """The second number with the derivative of the first, of which it is a better value."""
    return exact


@_instead.defjvp
def _instead_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    return _instead(*primals), tangents[0]
