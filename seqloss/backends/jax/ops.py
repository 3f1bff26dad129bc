"""JAX: facts and primitives."""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqloss.core.contract import Spec
from seqloss.core.protocol import Array, Location
from seqloss.core.shapes import Shape


def owns(x: Any) -> bool:
    # Sparse arrays are not a jax.Array; the module name is checked to avoid the import of jax.experimental.sparse.
    return isinstance(x, jax.Array) or type(x).__module__.startswith("jax.experimental.sparse")


def dense_form(x: Array) -> str | None:
    return None if isinstance(x, jax.Array) else "{0}.todense()"


def packed_form(x: Array) -> None:
    return None


def shape(x: Array) -> Shape:
    return tuple(x.shape)


def dtype(x: Array) -> str:
    return str(x.dtype)


def device(x: Array) -> None:
    return None


def location(x: Array) -> Location:
    # With several processes, each has its own copy of a replicated array.
    if isinstance(x, jax.core.Tracer) or not (x.is_fully_addressable or x.is_fully_replicated):
        return "traced"
    return "host" if next(iter(x.devices())).platform == "cpu" else "device"


def needs_grad(x: Array) -> bool:
    return isinstance(x, jax.core.Tracer)


def is_stopped(x: Array) -> bool:
    return not needs_grad(x)


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
    # A constant NaN would be found by jax_debug_nans; this is sqrt(-1), only where NaN is wanted.
    return jnp.where(condition, x, jnp.sqrt(condition.astype(x.dtype) - 1))


def equal(x1: Array, x2: Array | float) -> Array:
    return jnp.equal(x1, x2)


def isfinite(x: Array) -> Array:
    return jnp.isfinite(x)


def sum(x: Array, *, axis: tuple[int, ...], dtype: str | None = None) -> Array:
    return jnp.sum(x, axis=axis, dtype=dtype)


def min(x: Array, *, axis: tuple[int, ...]) -> Array:
    return jnp.min(x, axis=axis)


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


def exp(x: Array) -> Array:
    return jnp.exp(x)


def take(x: Array, indices: Array) -> Array:
    sharding = jax.typeof(indices).sharding
    if not any(sharding.spec):
        return x.at[indices].get(mode="promise_in_bounds")
    # Indices that are explicitly sharded have to be told that their entries are so too (jax 0.10.2).
    spec = (*sharding.spec, *(None,) * (indices.ndim - len(sharding.spec) + x.ndim - 1))
    return x.at[indices].get(mode="promise_in_bounds", out_sharding=sharding.update(spec=spec))


def over_classes(*like: int, rows: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A kernel whose arrays may be explicitly sharded along the classes, which are their last axis.

    JAX (0.10.2) gathers nothing along such an axis. Inside of the kernel it is automatic therefore, and the logits stay
    where they are. Results are sharded like the arguments at these positions; with ``rows`` they have no classes.
    """

    def decorated(kernel: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(kernel)
        def computed(*arguments: Any) -> Any:
            shardings = [jax.typeof(arguments[i]).sharding for i in like]
            if not any(x.spec and x.spec[-1] for x in shardings):
                return kernel(*arguments)
            if rows:
                shardings = [x.update(spec=x.spec[:-1]) for x in shardings]
            arrays = [x for x in arguments if not isinstance(x, (Spec, bool))]
            static = arguments[len(arrays) :]
            automatic = jax.sharding.auto_axes(
                lambda *arrays: kernel(*arrays, *static),
                out_sharding=shardings[0] if len(like) == 1 else tuple(shardings),
            )
            return automatic(*arrays)

        return computed

    return decorated


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
