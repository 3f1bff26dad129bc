"""JAX: facts and primitives."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqloss.backends import compensated
from seqloss.core.protocol import Array, Location
from seqloss.core.shapes import Shape


def owns(x: Any) -> bool:
    # Sparse arrays are no jax.Array; looking at the module name spares the import of jax.experimental.sparse.
    return isinstance(x, jax.Array) or type(x).__module__.startswith("jax.experimental.sparse")


def dense_form(x: Array) -> str | None:
    return None if isinstance(x, jax.Array) else "{0}.todense()"


def shape(x: Array) -> Shape:
    return tuple(x.shape)


def dtype(x: Array) -> str:
    return str(x.dtype)


def device(x: Array) -> None:
    return None


def location(x: Array) -> Location:
    if isinstance(x, jax.core.Tracer) or not x.is_fully_addressable:
        return "traced"
    return "host" if next(iter(x.devices())).platform == "cpu" else "device"


def needs_grad(x: Array) -> bool:
    return isinstance(x, jax.core.Tracer)


def asarray(x: Any, *, like: Array | None = None) -> Array:
    return x if isinstance(x, jax.Array) else jnp.asarray(x)


def to_numpy(x: Array) -> Any:
    return np.asarray(x)


def sizes(x: Array) -> tuple[Any, ...]:
    return tuple(x.shape)


def astype(x: Array, dtype: str) -> Array:
    return x.astype(dtype)


def arange(stop: int, *, like: Array) -> Array:
    return jnp.arange(stop)


def ones_like(x: Array, *, dtype: str) -> Array:
    return jnp.ones_like(x, dtype=dtype)


def reshape(x: Array, shape: Sequence[Any]) -> Array:
    return jnp.reshape(x, shape)


def expand_dims(x: Array, *, axis: int) -> Array:
    return jnp.expand_dims(x, axis)


def where(condition: Array, x1: Array | float, x2: Array | float) -> Array:
    return jnp.where(condition, x1, x2)


def nan_unless(condition: Array, x: Array) -> Array:
    # A constant would be a NaN that jax_debug_nans finds: this is sqrt(-1), where it is wanted.
    return jnp.where(condition, x, jnp.sqrt(condition.astype(x.dtype) - 1))


def equal(x1: Array, x2: Array | float) -> Array:
    return jnp.equal(x1, x2)


def isfinite(x: Array) -> Array:
    return jnp.isfinite(x)


def sum(x: Array, *, axis: tuple[int, ...]) -> Array:
    return jnp.sum(x, axis=axis)


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
    # The plain sum is asked too, lest XLA computes the losses inside of the other reduction, one by one and not in
    # vectors: what two look at is computed before.
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
    # A compiler must not compute the product twice, once with fewer roundings than the other time.
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


def count_nonzero(x: Array, *, axis: tuple[int, ...]) -> Array:
    return jnp.count_nonzero(x, axis=axis)


def all(x: Array, *, axis: int) -> Array:
    return jnp.all(x, axis=axis)


def surely_all(x: Array) -> bool:
    return location(x) == "host" and bool(np.asarray(x).all())


def stop_gradient(x: Array) -> Array:
    return jax.lax.stop_gradient(x)


def permute_dims(x: Array, axes: Sequence[int]) -> Array:
    return jnp.permute_dims(x, tuple(axes))


def concat(arrays: Sequence[Array], *, axis: int) -> Array:
    return jnp.concatenate(list(arrays), axis=axis)


def log(x: Array) -> Array:
    return jnp.log(x)


def take(x: Array, indices: Array) -> Array:
    return x[indices]


def scope(name: str | None) -> AbstractContextManager[Any]:
    return nullcontext() if name is None else jax.named_scope(name)


def with_rank(x: Array, rank: int) -> Array:
    return x


def sizes_agree(arrays: Sequence[Array], message: str) -> tuple[Array, list[Array]]:
    return jnp.bool_(True), list(arrays)


def broadcast_like(x: Array, like: Array, message: str) -> tuple[Array | None, Array]:
    return None, jnp.broadcast_to(x, like.shape)


def vjp(function: Callable[[Array], Array], x: Array) -> tuple[Array, Callable[[Array], Array]]:
    value, pull = jax.vjp(function, x)
    return value, lambda cotangent: pull(cotangent)[0]
