"""JAX: operations of the losses, with float64 inside them whatever JAX is set to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from seqloss.core.errors import EXACT_ONCE, BackendError
from seqloss.core.protocol import Array, Arrays, LossOp


def differentiable(op: LossOp, arrays: Arrays) -> tuple[Array, ...]:
    return _differentiable(op, *arrays)


def run(op: LossOp, arrays: Arrays) -> tuple[Array, ...]:
    return _differentiable(op, *_varying(arrays)) if op.opaque else _composed(op, *arrays)


def _varying(arrays: Arrays) -> list[Any]:
    """Inside of ``shard_map`` all vary over the axes of any: so what each device adds to a gradient is added up."""
    own = [frozenset[str]() if x is None else _axes(x) for x in arrays]
    every = frozenset[str]().union(*own)
    pairs = zip(arrays, own, strict=True)
    return [
        x if x is None or axes == every else jax.lax.pcast(x, tuple(every - axes), to="varying") for x, axes in pairs
    ]


def _axes(x: Any) -> frozenset[str]:
    """The axes of ``shard_map`` over which an array varies."""
    kind: Any = jax.typeof(x)
    found: frozenset[str] = kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma  # jax 0.8
    return found


def explicit(op: LossOp, arrays: Arrays) -> LossOp:
    return _Jitted(op)


@partial(jax.jit, static_argnums=0)
def _composed(op: LossOp, *arrays: Any) -> tuple[Array, ...]:
    """One dispatch for an eager call."""
    return op.composed(*arrays)


@dataclass(frozen=True)
class _Jitted:
    """An operation whose two functions are one dispatch each."""

    op: LossOp

    @property
    def backend(self) -> Any:
        return self.op.backend

    @property
    def opaque(self) -> bool:
        return self.op.opaque

    def on(self, backend: Any) -> LossOp:
        return self.op.on(backend)

    def composed(self, *arrays: Any) -> tuple[Array, ...]:
        return self.op.composed(*arrays)

    def forward(self, *arrays: Any) -> tuple[tuple[Array, ...], Any]:
        return _forward(self.op, *arrays)

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Any, ...]:
        return _pullback(self.op, tuple(arrays), residuals, tuple(cotangents))


# --- an operation whose derivative is its pullback --------------------------------------------------------------------
#
# JAX takes second derivatives through both functions, as they are when it looks inside of jit. It sees by itself that
# the residuals depend on the arrays.


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _differentiable(op: LossOp, *arrays: Any) -> tuple[Array, ...]:
    return _forward(op.alone() if hasattr(op, "alone") else op, *arrays)[0]


def _differentiable_forward(op: LossOp, *arrays: Any) -> tuple[tuple[Array, ...], Any]:
    outputs, residuals = _forward(op, *arrays)
    return outputs, (arrays, residuals)


def _differentiable_backward(op: LossOp, saved: Any, cotangents: Any) -> tuple[Any, ...]:
    arrays, residuals = saved
    # The cotangent of integers is of a dtype that jit does not take.
    known = tuple(None if x.dtype == jax.dtypes.float0 else x for x in cotangents)
    gradients = _pullback(op, arrays, residuals, known)
    return tuple(g if _is_differentiable(x) else None for x, g in zip(arrays, gradients, strict=True))


_differentiable.defvjp(_differentiable_forward, _differentiable_backward)


def _is_differentiable(x: Array | None) -> bool:
    return x is not None and jnp.issubdtype(x.dtype, jnp.inexact)


def _forward(op: LossOp, *arrays: Any) -> tuple[tuple[Array, ...], Any]:
    return (_hidden_forward if op.opaque else _plain_forward)(op, *arrays)


def _pullback(op: LossOp, arrays: Any, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    return (_hidden_pullback if op.opaque else _plain_pullback)(op, arrays, residuals, cotangents)


@partial(jax.jit, static_argnums=0)
def _plain_forward(op: LossOp, *arrays: Any) -> tuple[tuple[Array, ...], Any]:
    return op.forward(*arrays)


@partial(jax.jit, static_argnums=0)
def _plain_pullback(op: LossOp, arrays: Any, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    return op.pullback(arrays, residuals, cotangents)


# --- float64 for a while ---------------------------------------------------------------------------------------------


@partial(jax.custom_jvp, nondiff_argnums=(0,))
@partial(jax.jit, static_argnums=0)
def _hidden_forward(op: LossOp, *arrays: Any) -> tuple[tuple[Array, ...], Any]:
    arrays = _together(arrays)
    with jax.enable_x64(True):
        outputs, residuals = op.forward(*arrays)
        return outputs, jax.tree.map(_hidden, residuals)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
@partial(jax.jit, static_argnums=0)
def _hidden_pullback(op: LossOp, arrays: Any, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    arrays, residuals, cotangents = _together((arrays, residuals, cotangents))
    with jax.enable_x64(True):
        residuals = jax.tree.map(_shown, residuals, is_leaf=lambda x: isinstance(x, _Bits))
        return op.pullback(arrays, residuals, cotangents)


def _refuse(op: LossOp, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    # Only the derivative of a gradient comes here: to the first one _differentiable is a whole.
    raise BackendError(EXACT_ONCE)


_hidden_forward.defjvp(_refuse)
_hidden_pullback.defjvp(_refuse)


def _together(arrays: Any) -> Any:
    """The same, each depending on all.

    jax.lax.scan (jax 0.10.2) moves out of the loop what depends on constants only.
    """
    return jax.lax.optimization_barrier(arrays)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Bits:
    """Numbers of 64 bits as those of 32, because transformations know no others outside."""

    bits: Array
    dtype: str = field(metadata={"static": True})


def _hidden(x: Array) -> Any:
    return _Bits(jax.lax.bitcast_convert_type(x, jnp.uint32), str(x.dtype)) if x.dtype.itemsize == 8 else x


def _shown(x: Any) -> Array:
    return jax.lax.bitcast_convert_type(x.bits, x.dtype) if isinstance(x, _Bits) else x
