"""JAX: arrays, and the ways to run and differentiate a function."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqloss.testing.frameworks.capabilities import Capabilities

name = "jax"
DTYPES = ("float32", "float64", "float16", "bfloat16")
CAN = Capabilities(DTYPES, int64=False)


def array(x: Any, dtype: str | None = None) -> Any:
    return jnp.asarray(np.array(x), dtype=dtype)


def to_numpy(x: Any) -> Any:
    return np.asarray(x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x)


def dtype(x: Any) -> str:
    return str(x.dtype)


def is_array(x: Any) -> bool:
    return isinstance(x, jax.Array)


def dense(x: Any) -> Any:
    return x


def transposed(x: Any) -> Any:
    return x.T


def device(x: Any) -> str:
    return str(next(iter(x.devices())))


def precision(dtype: str) -> AbstractContextManager[Any]:
    """float64 exists in JAX only where it is switched on; the other dtypes are tested where it is off."""
    return jax.enable_x64(dtype == "float64")


def _eager(function: Any, wrt: Any) -> Any:
    def run(arrays: Any, cotangent: Any) -> tuple[Any, tuple[Any, ...]]:
        def of_leaves(*leaves: Any) -> Any:
            full = list(arrays)
            for i, leaf in zip(wrt, leaves, strict=True):
                full[i] = leaf
            return function(*full)

        value, pull = jax.vjp(of_leaves, *[arrays[i] for i in wrt])
        return value, pull(jnp.ones_like(value) if cotangent is None else cotangent)

    return run


def _jit(function: Any, wrt: Any) -> Any:
    compiled = jax.jit(_eager(function, wrt))
    return lambda arrays, cotangent: compiled(list(arrays), cotangent)


def _jit_inside(function: Any, wrt: Any) -> Any:
    return _eager(jax.jit(function), wrt)


def _checkpoint(function: Any, wrt: Any) -> Any:
    return _jit(jax.checkpoint(function), wrt)


def _strict(function: Any, wrt: Any) -> Any:
    """With everything switched on by which JAX finds mistakes in other people's programs."""
    eager = _eager(function, wrt)

    def run(arrays: Any, cotangent: Any) -> Any:
        with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"), jax.debug_nans(True):
            return eager(arrays, cotangent)

    return run


def weighted(tokens: Any, weights: Any) -> Any:
    """The losses of tokens times their weights, in the dtype of the losses."""
    return tokens * weights.astype(tokens.dtype)


def total(x: Any) -> Any:
    return x.sum()


def identity(x: Any) -> Any:
    """The matrix by which the last axis of an array is multiplied without a change."""
    return jnp.eye(x.shape[-1], dtype=x.dtype)


def over(summed: Any, weights: Any) -> Any:
    """A sum of losses divided by the sum of the weights, added up in its dtype; 0 where that is 0."""
    # With dtype= JAX (0.10.2) would add in that very dtype, where it otherwise adds half-precision numbers in float32.
    count = weights.astype(summed.dtype).sum()
    return jnp.where(count == 0, jnp.zeros_like(summed), summed / jnp.where(count == 0, jnp.ones_like(count), count))


def hessian_product(function: Any, arrays: Any, direction: Any) -> Any:
    """The Hessian of a scalar function of its first array, times a direction."""

    def slope(first: Any) -> Any:
        return jnp.vdot(jax.grad(lambda x: function(x, *arrays[1:]))(first), direction)

    return jax.grad(slope)(arrays[0])


def pullback(function: Any, arrays: Any) -> Any:
    """The backward pass of a scalar function of its first array, which can be asked for again."""
    value, pull = jax.vjp(lambda first: function(first, *arrays[1:]), arrays[0])
    return lambda: pull(jnp.ones_like(value))[0]


def mapped(function: Any, batches: Any) -> Any:
    """Values and gradients of a scalar function, mapped over the batches: lists of its arrays, of the same shapes."""
    stacks = [jnp.stack(arrays) for arrays in zip(*batches, strict=True)]
    return jax.vmap(jax.value_and_grad(function))(*stacks)


many_shapes = nullcontext
LAYOUTS: dict[str, Any] = {}
UNRECORDED = {"without a gradient": nullcontext}
SURROUNDINGS = {"jax_enable_x64": lambda: jax.enable_x64(True)}
writable = None
MODES = {"eager": _eager, "jit": _jit, "grad-of-jit": _jit_inside, "checkpoint": _checkpoint}
SETTINGS = {"strict": _strict}
FINITE = ("strict",)
COMPILERS = {"jit": jax.jit}
QUICK = "jit"
EXPLICIT = {"explicit": lambda function: function, "explicit-jit": jax.jit}

# The first is the one that is asked everything by default.
COMPILED = ("jit", "grad-of-jit", "checkpoint", "explicit-jit")
# A kernel sees a dtype and a way to run independently of each other. So one half-precision dtype tells enough where a
# case is compiled, and float32 where another mode compiles the same operations.
FEWER_DTYPES = {
    "jit": ("float32", "float64", "bfloat16"),
    **dict.fromkeys(("grad-of-jit", "checkpoint"), ("float32",)),
    "explicit-jit": ("float32", "bfloat16"),
}
