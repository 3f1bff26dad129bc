"""PyTorch: operations with a pullback, for autograd, torch.func and torch.compile; and NumPy in their place."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from seqloss.backends.on_numpy import RunOnNumPy
from seqloss.backends.torch import operators
from seqloss.backends.torch.linear import Products
from seqloss.backends.torch.ops import dtype, is_differentiated, is_on_host, is_tracing, no_jvp
from seqloss.core.errors import EXACT_ONCE, BackendError
from seqloss.core.protocol import Array, Arrays, LossOp

_MOST = 10
"""Arrays of an operation that torch.compile traces. There are versions of it, such as that of torch 2.13, that refuse a
forward pass of any number, so that it has so many parameters."""


def differentiable(op: LossOp, arrays: Arrays) -> tuple[Array, ...]:
    if not is_tracing():
        return _writable(_Eager.apply(op, False, *arrays))
    if torch.compiler.is_compiling() and _derivatives() > 1:
        # In a program, of a derivative of a derivative, torch 2.13 forgets what the arrays of a function with a
        # derivative of its own depend on, and makes 0 of it. It differentiates the formulas instead.
        return _writable(op.forward(*arrays)[0])
    return _writable(_traced(op, len(arrays), *arrays, *(None,) * (_MOST - len(arrays))))


def run(op: LossOp, arrays: Arrays) -> tuple[Array, ...]:
    if is_on_host(arrays):
        foresees = is_differentiated(*arrays[: getattr(op, "leading", 1)]) and not _are_hooked()
        # Not Function.apply, which first looks for wrappers of torch.func among the arguments: here are none.
        apply: Any = super(torch.autograd.Function, _OnNumPy).apply
        outputs: tuple[Array, ...] = apply(RunOnNumPy.of(op, _MEMORY, dtype(arrays[0]), foresees), *arrays)
        return outputs
    if _is_operator(op):
        if _derivatives() > 1:
            raise BackendError(EXACT_ONCE)
        return operators.run(op, arrays)
    if is_tracing():
        return differentiable(op, arrays) if op.opaque else op.composed(*arrays)
    return _writable(_Eager.apply(op, True, *arrays))


def _is_operator(op: LossOp) -> bool:
    """Whether a program that is being made holds an operation as an operator."""
    return torch.compiler.is_compiling() and hasattr(op, "encoded")


def _derivatives() -> int:
    """How many transformations of torch.func that differentiate are under way."""
    levels = torch._C._functorch.get_interpreter_stack() or ()
    return sum(level.key() == torch._C._functorch.TransformType.Grad for level in levels)


# What torch.compiler.assume_constant_result does, which loads the compiler: it asks when it traces.
_derivatives._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _are_hooked() -> bool:
    """Whether what a forward pass keeps goes through hooks: those of torch.utils.checkpoint (torch 2.13) throw it away.

    A gradient that is made in the forward pass would stay, and be made twice.
    """
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def explicit(op: LossOp, arrays: Arrays) -> Any:
    if _is_operator(op):
        return operators.Explicit(op)
    return RunOnNumPy.of(op, _MEMORY, dtype(arrays[0])) if is_on_host(arrays) else op


class _Eager(torch.autograd.Function):
    """For plain eager autograd only: torch.func and torch.compile never see it, so it can be of the lightest kind."""

    jvp = staticmethod(no_jvp)

    @staticmethod
    def forward(ctx: Any, op: LossOp, is_composed: bool, *arrays: Array | None) -> tuple[Array, ...]:
        outputs, residuals = op.forward(*arrays)
        saved: list[Array] = []
        ctx.op, ctx.is_composed, ctx.count = op, is_composed, len(arrays)
        ctx.residuals = _packed(residuals, saved)
        ctx.save_for_backward(*arrays, *saved)
        ctx.set_materialize_grads(False)
        return _owned(outputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Array | None) -> tuple[Array | None, ...]:
        op, needed = ctx.op, ctx.needs_input_grad[2:]
        if all(g is None for g in cotangents):
            return None, None, *(None for _ in needed)
        # Once: torch.utils.checkpoint computes them anew, and refuses to do so twice (pytorch/pytorch#82156).
        tensors = ctx.saved_tensors
        arrays, saved = tensors[: ctx.count], tensors[ctx.count :]
        if not torch.is_grad_enabled():
            return None, None, *op.pullback(arrays, _unpacked(ctx.residuals, iter(saved)), cotangents)
        if op.opaque:
            return None, None, *_gradients(op, needed, cotangents, arrays)
        if ctx.is_composed:
            return None, None, *_gradients_composed(op, needed, cotangents, arrays)
        return None, None, *_gradients_anew(op, cotangents, arrays)


class _OnNumPy(torch.autograd.Function):
    """The same of what NumPy runs, whose residuals hold no tensors and whose outputs belong to nobody."""

    jvp = staticmethod(no_jvp)

    @staticmethod
    def forward(ctx: Any, op: RunOnNumPy, *arrays: Array | None) -> tuple[Array, ...]:
        outputs, ctx.residuals = op.forward(*arrays)
        ctx.op = op
        ctx.save_for_backward(*arrays)
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *cotangents: Array | None) -> tuple[Array | None, ...]:
        op, needed, arrays = ctx.op, ctx.needs_input_grad[1:], ctx.saved_tensors
        if cotangents[0] is None and all(g is None for g in cotangents):
            return None, *(None for _ in needed)
        if not torch.is_grad_enabled():
            return None, *op.pullback(arrays, ctx.residuals, cotangents)
        gradients = _gradients if op.opaque else _gradients_composed
        return None, *gradients(op, needed, cotangents, arrays)


class _Traced(torch.autograd.Function):
    """The same as torch.func and torch.compile ask for it.

    It keeps no residuals: transformations always reach the code that computes them again, so that second derivatives
    are not silently wrong, and compilers see that they exist already.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        op: LossOp, count: int, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any, i: Any, j: Any
    ) -> Any:
        arrays = (a, b, c, d, e, f, g, h, i, j)
        return _owned(op.forward(*arrays[:count])[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.op, ctx.count = inputs[0], inputs[1]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, *cotangents: Array | None) -> tuple[Array | None, ...]:
        op, arrays = ctx.op, ctx.saved_tensors[: ctx.count]
        if op.opaque and not torch.compiler.is_compiling():
            gradients = _gradients(op, ctx.needs_input_grad[2 : 2 + ctx.count], cotangents, arrays)
        else:
            # In a program nothing can be refused, but what is traced is differentiated.
            gradients = _gradients_anew(op, cotangents, arrays)
        return None, None, *gradients, *(None,) * (_MOST - ctx.count)


def _gradients_anew(op: LossOp, cotangents: Arrays, arrays: Arrays) -> tuple[Array | None, ...]:
    """The pullback, with residuals that are no constants."""
    _, residuals = op.forward(*arrays)
    return tuple(op.pullback(arrays, residuals, cotangents))


def _gradients_composed(
    op: LossOp, needed: Sequence[bool], cotangents: Arrays, arrays: Arrays
) -> tuple[Array | None, ...]:
    """Through the graph that was spared.

    It begins at views of the arrays, because one may depend on another, and because hooks of the caller's tensors are
    the engine's to call.
    """
    arrays = [x.view_as(x) if is_needed else x for x, is_needed in zip(arrays, needed, strict=True)]
    outputs = op.composed(*arrays)
    pairs = [(y, g) for y, g in zip(outputs, cotangents, strict=True) if g is not None and y.requires_grad]
    wanted = [x for x, is_needed in zip(arrays, needed, strict=True) if is_needed]
    if not pairs:
        return (None,) * len(arrays)
    values, upstream = zip(*pairs, strict=True)
    gradients = iter(torch.autograd.grad(values, wanted, upstream, create_graph=True, allow_unused=True))
    return tuple(next(gradients) if is_needed else None for is_needed in needed)


def _gradients(op: LossOp, needed: Sequence[bool], cotangents: Arrays, arrays: Arrays) -> tuple[Array | None, ...]:
    """The pullback as an operation that cannot be differentiated again."""
    places = tuple(i for i, is_needed in enumerate(needed) if is_needed)
    gradients = iter(_gradients_once(op, places, len(cotangents), *cotangents, *arrays))
    return tuple(next(gradients) if is_needed else None for is_needed in needed)


class _Gradients(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(op: LossOp, places: tuple[int, ...], count: int, *arrays: Array | None) -> tuple[Array, ...]:
        # Residuals anew: here it is rare.
        gradients = _gradients_anew(op, arrays[:count], arrays[count:])
        return tuple(gradients[i] for i in places)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *cotangents: Array) -> Any:
        raise BackendError(EXACT_ONCE)


def _in_reverse(operation: Any) -> Any:
    """``operation.apply``, which refuses forward mode in words of this library.

    A jvp does so. torch.compile (torch 2.13) cannot trace a class that has one, and need not: it differentiates what it
    traces.
    """
    refusing: Any = type(operation.__name__, (operation,), {"jvp": staticmethod(no_jvp)})

    def apply(*arguments: Any) -> Any:
        return (operation if torch.compiler.is_compiling() else refusing).apply(*arguments)

    return apply


_traced, _gradients_once = _in_reverse(_Traced), _in_reverse(_Gradients)


def _owned(outputs: Sequence[Array]) -> tuple[Array, ...]:
    """Outputs for the caller to write into: neither views nor residuals, which the pullback needs."""
    return tuple(x.clone() for x in outputs)


def _writable(outputs: Sequence[Array]) -> tuple[Array, ...]:
    """What an operation with a derivative of its own returned, for the caller to write into.

    What such an operation returns for a subclass is a view for autograd (torch 2.13), which may not be written into.
    """
    return tuple([x if type(x) is torch.Tensor else x.clone() for x in outputs])


def _packed(residuals: Any, saved: list[Array]) -> Any:
    """Residuals without their tensors, which go to ``saved``: autograd is to watch over them, and to free them."""
    if isinstance(residuals, tuple):
        return tuple(_packed(x, saved) for x in residuals)
    if not isinstance(residuals, torch.Tensor):
        return residuals
    saved.append(residuals)
    return torch.Tensor


def _unpacked(residuals: Any, saved: Iterator[Array]) -> Any:
    if isinstance(residuals, tuple):
        return tuple(_unpacked(x, saved) for x in residuals)
    return next(saved) if residuals is torch.Tensor else residuals


# --- tensors in the memory of the host -----------------------------------------------------------------------------


class _Memory:
    """Where NumPy computes: see :class:`seqloss.backends.on_numpy.Memory`."""

    is_on_host = staticmethod(is_on_host)
    products = Products()
    threads = staticmethod(torch.get_num_threads)

    def to_host(self, x: Array) -> Any:
        if x.dtype is torch.bfloat16:
            x = x.detach().view(torch.uint16)
        return x.numpy(force=True)  # detached

    def from_host(self, x: Any, dtype: str, like: Array) -> Array:
        host = np.asarray(x)
        array = torch.from_numpy(host if host.flags.writeable else host.copy())
        return array.view(torch.bfloat16) if dtype == "bfloat16" else array


_MEMORY = _Memory()
