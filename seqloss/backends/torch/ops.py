"""PyTorch: facts and primitives."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from seqloss.backends.torch import mesh
from seqloss.backends.torch.mesh import PLAIN
from seqloss.core.errors import FORWARD_MODE, BackendError
from seqloss.core.protocol import Array, Location
from seqloss.core.shapes import Shape

# One table instead of str(dtype) on every call: this is on the path of the smallest batches.
_NAMES = {
    getattr(torch, name): name
    for name in (
        *("bfloat16", "float16", "float32", "float64", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
}


# What a dense tensor on the CPU dispatches on, outside and inside of torch.inference_mode. Everything that stands for
# something else than its storage has another key, the batches of torch.autograd.grad(is_grads_batched=True) included.
with torch.inference_mode():
    _HOST_KEYS = {torch._C._dispatch_keys(torch.empty(0)).raw_repr()}


with torch.inference_mode(False):
    _HOST_KEYS.add(torch._C._dispatch_keys(torch.empty(0)).raw_repr())


# Looked up once: each call asks several times.
_is_compiling = torch.compiler.is_compiling
_interpreter, _is_traced = torch._C._functorch.peek_interpreter_stack, torch._C._is_tracing

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
"""Dtypes that torch 2.13 selects nothing of, and those of the same size."""


def owns(x: Any) -> bool:
    return isinstance(x, torch.Tensor)


def dense_form(x: Array) -> str | None:
    if x.layout is torch.strided:
        return "torch.nested.to_padded_tensor({0}, 0)" if x.is_nested else None
    return "torch.nested.to_padded_tensor({0}, 0)" if x.layout is torch.jagged else "{0}.to_dense()"


def packed_form(x: Array) -> tuple[Array, Array, Callable[[Array], Array]] | None:
    # A narrowed one has holes between its sequences, and a ragged axis other than the second is not time.
    if not x.is_nested or x.layout is not torch.jagged or x.lengths() is not None or x._ragged_idx != 1:
        return None
    offsets = x.offsets()
    return x.values(), offsets, lambda values: torch.nested.nested_tensor_from_jagged(values, offsets)


def shape(x: Array) -> Shape:
    return tuple(x.shape)  # a torch.Size is slow to slice (torch 2.13)


def dtype(x: Array) -> str:
    return _NAMES.get(x.dtype) or str(x.dtype).removeprefix("torch.")


def device(x: Array) -> torch.device:
    return x.device


def location(x: Array) -> Location:
    if is_tracing() or type(x) not in PLAIN:
        return "traced"
    if x.is_cpu:
        return "host"
    return "traced" if x.device.type == "meta" else "device"


def needs_grad(x: Array) -> bool:
    # While tracing, the flag of a wrapper says nothing about the layers below it.
    return is_tracing() or is_differentiated(x)


def is_stopped(x: Array) -> bool:
    return not needs_grad(x)


def is_tracing() -> bool:
    """Whether torch.compile, torch.export, torch.jit.trace or a transformation of torch.func is under way.

    Inside a transformation even a plain tensor yields wrappers without storage. Torch 2.13 has no public way to ask.
    """
    if _is_compiling():
        return True
    return _interpreter() is not None or _is_traced()


def is_differentiated(*arrays: Array | None) -> bool:
    """Whether autograd watches what is computed from one of these plain tensors."""
    if torch.is_grad_enabled():
        for x in arrays:
            if x is not None and x.requires_grad:
                return True
    return False


def is_on_host(arrays: Sequence[Any]) -> bool:
    """Whether all of these, None aside, are eager tensors whose memory NumPy can read."""
    if is_tracing() or torch._C._len_torch_dispatch_stack():
        return False
    for x in arrays:
        if x is not None and (type(x) not in PLAIN or torch._C._dispatch_keys(x).raw_repr() not in _HOST_KEYS):
            return False
    return True


def asarray(x: Any, *, like: Array | None = None) -> Array:
    if not isinstance(x, torch.Tensor):
        device = None if like is None else like.device
        if torch.compiler.is_compiling():  # where a NumPy array is a tensor already
            x = torch.as_tensor(x, device=device)
        else:
            # A copy spares the warning about read-only arrays; tensors cannot go backwards through memory (torch 2.13).
            x = torch.tensor(np.asarray(x, order="C"), device=device)
    return x if like is None else mesh.beside(like, x)


def to_numpy(x: Array) -> Any:
    return (x.float() if x.dtype is torch.bfloat16 else x).numpy(force=True)


def sizes(x: Array) -> tuple[Any, ...]:
    return tuple(x.shape)


def astype(x: Array, dtype: str) -> Array:
    wanted = getattr(torch, dtype)
    return x if x.dtype == wanted else x.to(wanted)


def arange(stop: int, *, like: Array) -> Array:
    return mesh.beside(like, torch.arange(stop, device=like.device))


def ones_like(x: Array, *, dtype: str) -> Array:
    return torch.ones_like(x, dtype=getattr(torch, dtype))


def reshape(x: Array, shape: Sequence[Any]) -> Array:
    return x.reshape(shape)


def expand_dims(x: Array, *, axis: int) -> Array:
    return x.unsqueeze(axis)


def where(condition: Array, x1: Array | float, x2: Array | float) -> Array:
    # Asked by its class: torch.compile (torch 2.13) cannot look for attributes of a symbolic number.
    tensor: Any = x1 if isinstance(x1, torch.Tensor) else x2
    kind = tensor.dtype
    if kind not in _SIGNED:
        return torch.where(condition, x1, x2)
    signed = (x.view(_SIGNED[kind]) if isinstance(x, torch.Tensor) else x for x in (x1, x2))
    return torch.where(condition, *signed).view(kind)


def nan_unless(condition: Array, x: Array) -> Array:
    return torch.where(condition, x, torch.nan)


def equal(x1: Array, x2: Array | float) -> Array:
    return torch.eq(x1, x2)


def isfinite(x: Array) -> Array:
    return torch.isfinite(x)


def sum(x: Array, *, axis: tuple[int, ...], dtype: str | None = None) -> Array:
    return mesh.whole_integers(x.sum(axis, dtype=None if dtype is None else getattr(torch, dtype)))


def min(x: Array, *, axis: tuple[int, ...]) -> Array:
    return x.amin(axis)


def count_nonzero(x: Array, *, axis: tuple[int, ...]) -> Array:
    return mesh.whole_integers(torch.count_nonzero(x, axis))


def all(x: Array, *, axis: int) -> Array:
    return torch.all(x, axis)


def surely_all(x: Array) -> bool:
    return is_on_host((x,)) and bool(torch.all(x))


def no_jvp(ctx: Any, *tangents: Any) -> Any:
    """The forward mode of an operation that refuses it in words of this library."""
    raise BackendError(FORWARD_MODE)


def stop_gradient(x: Array) -> Array:
    return x.detach()


def permute_dims(x: Array, axes: Sequence[int]) -> Array:
    return x.permute(*axes)


def concat(arrays: Sequence[Array], *, axis: int) -> Array:
    return torch.cat(list(arrays), axis)


def log(x: Array) -> Array:
    return torch.log(x)


def exp(x: Array) -> Array:
    return torch.exp(x)


class _Rows(torch.autograd.Function):
    """Rows of a parameter, with a sparse gradient. Only plain eager autograd sees it."""

    jvp = staticmethod(no_jvp)

    @staticmethod
    def forward(ctx: Any, x: Array, indices: Array) -> Array:
        ctx.shape = x.shape
        ctx.save_for_backward(indices)
        return x.index_select(0, indices)

    @staticmethod
    def backward(ctx: Any, cotangent: Array) -> tuple[Array, None]:
        (indices,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # sparse gradients cannot be differentiated again (torch 2.13)
            return cotangent.new_zeros(ctx.shape).index_add(0, indices, cotangent), None
        return torch.sparse_coo_tensor(indices.unsqueeze(0), cotangent, ctx.shape, check_invariants=False), None


def take(x: Array, indices: Array) -> Array:
    if x.dtype in _SIGNED:
        return take(x.view(_SIGNED[x.dtype]), indices).view(x.dtype)
    flat = indices.reshape(-1).to(torch.int64)
    # A sparse gradient is for the optimiser of the parameter; operations in between could not take it.
    rows = _Rows.apply(x, flat) if x.is_leaf and x.requires_grad and not is_tracing() else x.index_select(0, flat)
    return rows if indices.ndim == 1 else rows.reshape(*indices.shape, *x.shape[1:])


def scope(name: str | None) -> AbstractContextManager[Any]:
    return _NO_SCOPE if name is None else torch.profiler.record_function(name)


_NO_SCOPE = nullcontext()


def with_rank(x: Array, rank: int) -> Array:
    return x


def sizes_agree(arrays: Sequence[Array], message: str) -> tuple[Array, list[Array]]:
    return torch.ones((), dtype=torch.bool, device=arrays[0].device), list(arrays)


def broadcast_like(x: Array, like: Array, message: str) -> tuple[Array | None, Array]:
    return None, x.expand(like.shape)


def vjp(function: Callable[[Array], Array], x: Array) -> tuple[Array, Callable[[Array], Array]]:
    if is_tracing():
        # torch.autograd.grad cannot be traced (torch 2.13, see pytorch/pytorch#185034); this can, but asks more of a
        # function (setup_context, vmap rules).
        value, pull_back = torch.func.vjp(function, x)
        return value, lambda cotangent: pull_back(cotangent)[0]
    with torch.inference_mode(False), torch.enable_grad():
        leaf = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
        value = function(leaf)

    def pull(cotangent: Array) -> Array:
        if not value.requires_grad:
            return torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(value, leaf, cotangent, materialize_grads=True)
        return gradient

    return value.detach(), pull
