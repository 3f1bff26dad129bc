"""PyTorch: rules as operations of autograd, and tensors in the memory of the host."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from seqloss.backends.torch.ops import _PLAIN, _in_reverse, _is_tracing, _no_jvp, _writable
from seqloss.core.errors import EXACT_ONCE, BackendError
from seqloss.core.protocol import Array, Rule

# What a dense tensor on the CPU dispatches on, outside and inside of torch.inference_mode. Everything that stands for
# something else than its storage has another key, the batches of torch.autograd.grad(is_grads_batched=True) included.
with torch.inference_mode():
    _HOST_KEYS = {torch._C._dispatch_keys(torch.empty(0)).raw_repr()}
with torch.inference_mode(False):
    _HOST_KEYS.add(torch._C._dispatch_keys(torch.empty(0)).raw_repr())


def fuse(rule: Rule, arrays: Sequence[Any]) -> Array:
    return rule.plain(*arrays) if _is_tracing() else _writable(_Fused.apply(rule, False, *arrays))


def in_float64(rule: Rule, arrays: Sequence[Any]) -> Array:
    return _writable(_traced(rule, *arrays) if _is_tracing() else _Fused.apply(rule, True, *arrays))


def float64() -> AbstractContextManager[Any]:
    return nullcontext()


class _Fused(torch.autograd.Function):
    """Plain eager autograd alone: torch.func and torch.compile never see it, so it can be of the lightest kind."""

    jvp = staticmethod(_no_jvp)

    @staticmethod
    def forward(ctx: Any, rule: Any, once: bool, *arrays: Array) -> Array:
        value, residuals = rule.forward(*arrays)
        ctx.rule, ctx.once, ctx.count = rule, once, len(arrays)
        # The caller may write into the value, which is a residual too.
        if not rule.is_hosted:
            ctx.save_for_backward(*arrays, *residuals)
            return value.clone()
        ctx.residuals = residuals
        ctx.save_for_backward(*arrays)
        return value.clone() if value.dim() else value

    @staticmethod
    def backward(ctx: Any, cotangent: Array) -> tuple[Array | None, ...]:
        saved, rule = ctx.saved_tensors, ctx.rule
        arrays, residuals = saved[: ctx.count], ctx.residuals if rule.is_hosted else saved[ctx.count :]
        if not torch.is_grad_enabled():
            return None, None, *rule.pullback(arrays, residuals, cotangent)
        needed = ctx.needs_input_grad[2:]
        if ctx.once:
            return None, None, *_gradients(rule, needed, cotangent, arrays)
        # Second derivatives: through the graph that was spared. It begins at views of the arrays, because one may
        # depend on another, and because hooks of the caller's tensors are the engine's to call.
        arrays = [x.view_as(x) if is_needed else x for x, is_needed in zip(arrays, needed, strict=True)]
        wanted = [x for x, is_needed in zip(arrays, needed, strict=True) if is_needed]
        gradients = iter(torch.autograd.grad(rule.plain(*arrays), wanted, cotangent, create_graph=True))
        return None, None, *(next(gradients) if is_needed else None for is_needed in needed)


class _Traced(torch.autograd.Function):
    """A rule whose residuals are no business of others, as torch.func and torch.compile ask for it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rule: Any, *arrays: Array) -> Array:
        return rule.forward(*arrays)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.rule = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, cotangent: Array) -> tuple[Array | None, ...]:
        return None, *_gradients(ctx.rule, ctx.needs_input_grad[1:], cotangent, ctx.saved_tensors)


_traced = _in_reverse(_Traced)


def _gradients(
    rule: Rule, needed: Sequence[bool], cotangent: Array, arrays: Sequence[Array]
) -> tuple[Array | None, ...]:
    """The pullback as an operation that cannot be differentiated again."""
    if torch.compiler.is_compiling():  # where nothing else can be, and where such an operation cannot be traced
        _, residuals = rule.forward(*arrays)
        return rule.pullback(arrays, residuals, cotangent)
    places = tuple(i for i, is_needed in enumerate(needed) if is_needed)
    gradients = iter(_gradients_once(rule, places, cotangent, *arrays))
    return tuple(next(gradients) if is_needed else None for is_needed in needed)


class _Gradients(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(rule: Any, places: tuple[int, ...], cotangent: Array, *arrays: Array) -> tuple[Array, ...]:
        # Residuals anew: compilers see that they are there already, and elsewhere this is rare.
        _, residuals = rule.forward(*arrays)
        gradients = rule.pullback(arrays, residuals, cotangent)
        return tuple(gradients[i] for i in places)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *cotangents: Array) -> Any:
        raise BackendError(EXACT_ONCE)


_gradients_once = _in_reverse(_Gradients)


# --- tensors in the memory of the host -----------------------------------------------------------------------------


def on_host(arrays: Sequence[Any]) -> bool:
    if _is_tracing() or torch._C._len_torch_dispatch_stack():
        return False
    for x in arrays:
        if x is not None and (type(x) not in _PLAIN or torch._C._dispatch_keys(x).raw_repr() not in _HOST_KEYS):
            return False
    return True


def to_host(x: Array) -> Any:
    x = x.detach()
    return x.view(torch.uint16).numpy() if x.dtype is torch.bfloat16 else x.numpy()


def from_host(x: Any, dtype: str, like: Array) -> Array:
    array = torch.from_numpy(np.asarray(x))
    return array.view(torch.bfloat16) if dtype == "bfloat16" else array


def threads() -> int:
    return torch.get_num_threads()
