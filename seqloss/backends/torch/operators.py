"""PyTorch: the linear loss as operators of ``torch.ops.seqloss``, which programs hold and no compiler looks into.

When the program runs, an operator does what an eager call does. ``linear_loss`` is what programs hold; beneath autograd
it is ``linear_forward``, which is told what gradients are wanted, and which returns them if the loss is one number.
Else ``linear_pullback`` makes the logits anew. What is static of an operation travels as lists of numbers and names.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from seqloss.backends.torch.mesh import see_plain
from seqloss.backends.torch.ops import is_differentiated, no_jvp
from seqloss.core.errors import EXACT_ONCE, BackendError
from seqloss.core.linear import Encoded, decoded
from seqloss.core.protocol import Array, Arrays

_NAMES = (
    *("hidden", "kernel", "bias", "targets", "weights", "kept", "class_weights", "prior", "normalizer", "offsets"),
)
_WANTED = 0, 1, 2, 4
"""The places of arrays that have gradients: hidden, kernel, bias and weights."""
_COUNT = len(_NAMES)


def run(op: Any, arrays: Arrays) -> tuple[Array, ...]:
    """The outputs of an operation, which autograd can differentiate, in a program that is being made."""
    see_plain(arrays)
    given, code = (*arrays, *(None,) * (_COUNT - len(arrays))), op.encoded()
    if code.strs[0] == "loss":
        return (torch.ops.seqloss.linear_loss(*given, *_lists(code)),)
    return tuple(torch.ops.seqloss.linear_forward(*given, None, *_lists(code)))


class Explicit:
    """An operation whose gradients are asked for by name, in a program that is being made."""

    def __init__(self, op: Any) -> None:
        self.op, self.is_foreseen = op, op.is_foreseen

    def at_once(self, arrays: Arrays, cotangent: Array | None) -> tuple[tuple[Array], tuple[Array | None, ...]]:
        see_plain(arrays)
        loss, *found = torch.ops.seqloss.linear_forward(*arrays, cotangent, *_lists(self.op.encoded()))
        return (loss,), self.op.in_dtypes(arrays, _placed(self.op, found))

    def forward(self, *arrays: Array | None) -> tuple[tuple[Array], Sequence[Array]]:
        see_plain(arrays)
        loss, *kept = torch.ops.seqloss.linear_forward(*arrays, None, *_lists(self.op.encoded()))
        return (loss,), kept

    def pullback(self, arrays: Arrays, residuals: Sequence[Array], cotangents: Arrays) -> tuple[Array | None, ...]:
        return _pulled(self.op, arrays, residuals, cotangents[0])


def _lists(code: Encoded) -> tuple[list[Any], ...]:
    return list(code.floats), list(code.ints), list(code.bools), list(code.strs)


def _op(lists: Sequence[Sequence[Any]]) -> Any:
    import seqloss.backends.torch as backend

    floats, ints, bools, strs = [tuple(x) for x in lists]
    return decoded(backend, Encoded(floats, ints, bools, strs))


def _asked(op: Any) -> tuple[int, ...]:
    """The places of the gradients that an operation is to make."""
    flags = (*op.spec[-3:], op.loss.wanted.weights)
    return tuple(place for place, is_wanted in zip(_WANTED, flags, strict=True) if is_wanted)


def _placed(op: Any, gradients: Sequence[Array]) -> tuple[Array | None, ...]:
    found: list[Array | None] = [None] * _COUNT
    for place, gradient in zip(_asked(op), gradients, strict=True):
        found[place] = gradient
    return tuple(found)


def _pulled(op: Any, arrays: Arrays, kept: Sequence[Array], cotangent: Array) -> tuple[Array | None, ...]:
    """The gradients, of what the forward pass returned beside the loss."""
    if op.is_foreseen:
        pulled: tuple[Array | None, ...] = op.pullback(arrays, (_placed(op, kept), ()), (cotangent,))
        return pulled
    return _placed(op, torch.ops.seqloss.linear_pullback(*arrays, *kept, cotangent, *_lists(op.encoded())))


# --- what operators compute ----------------------------------------------------------------------------------------


def _forward(*arguments: Any) -> list[Array]:
    import seqloss.backends.torch as backend

    arrays, cotangent, op = arguments[:_COUNT], arguments[_COUNT], _op(arguments[_COUNT + 1 :])
    with torch.no_grad():
        runner = backend.explicit(op, arrays)
        if not getattr(op, "is_foreseen", False):
            outputs, residuals = runner.forward(*arrays)
            kept = [runner.losses_kept(residuals, arrays[0]).clone()] if _has_pullback(op) else []
            return [*outputs, *kept]
        outputs, gradients = (runner.at_once if runner is op else runner.wide_at_once)(arrays, cotangent)
        return [*outputs, *[_as_told(gradients[i], arrays[i]) for i in _asked(op)]]


def _forward_fake(*arguments: Any) -> list[Array]:
    arrays, op = arguments[:_COUNT], _op(arguments[_COUNT + 1 :])
    hidden, (shape, name) = arrays[0], op.results(*arrays)
    outputs = [hidden.new_empty(shape, dtype=getattr(torch, name))]
    if not _has_pullback(op):
        return outputs
    wide = getattr(torch, op.spec.dtype)
    if op.is_foreseen:
        return [*outputs, *[_empty_like(arrays[i], wide) for i in _asked(op)]]
    return [*outputs, hidden.new_empty(hidden.shape[:-1], dtype=wide)]


def _pullback(*arguments: Any) -> list[Array]:
    import seqloss.backends.torch as backend

    (*arrays, losses, cotangent), op = arguments[: _COUNT + 2], _op(arguments[_COUNT + 2 :])
    with torch.no_grad():
        runner = backend.explicit(op, arrays)
        gradients = runner.pullback(arrays, runner.kept(losses), (cotangent,))
    return [_as_told(gradients[i], arrays[i]) for i in _asked(op)]


def _pullback_fake(*arguments: Any) -> list[Array]:
    arrays, op = arguments[:_COUNT], _op(arguments[_COUNT + 2 :])
    return [_empty_like(arrays[i], arrays[i].dtype) for i in _asked(op)]


def _loss(*arguments: Any) -> Array:
    """Where autograd does not watch."""
    arrays, op = arguments[:_COUNT], _op(arguments[_COUNT:]).asking(False, False, False, False)
    found: Array = torch.ops.seqloss.linear_forward(*arrays, None, *_lists(op.encoded()))[0]
    return found


def _loss_fake(*arguments: Any) -> Array:
    arrays, op = arguments[:_COUNT], _op(arguments[_COUNT:])
    shape, name = op.results(*arrays)
    found: Array = arrays[0].new_empty(shape, dtype=getattr(torch, name))
    return found


def _has_pullback(op: Any) -> bool:
    return hasattr(op, "kept") and len(_asked(op)) > 0


def _empty_like(x: Array, wide: torch.dtype) -> Array:
    """A gradient as compilers are told of it: without gaps, and that of a turned kernel turned."""
    if x.ndim == 2 and x.mT.is_contiguous() and not x.is_contiguous():
        return x.new_empty(x.mT.shape, dtype=wide).mT
    return x.new_empty(x.shape, dtype=wide)


def _as_told(gradient: Array, x: Array) -> Array:
    is_turned = x.ndim == 2 and x.mT.is_contiguous() and not x.is_contiguous()
    return gradient.mT.contiguous().mT if is_turned else gradient.contiguous()


# --- and how autograd sees them ------------------------------------------------------------------------------------


def _watched(*arguments: Any) -> Array:
    """``linear_loss``, which finds out here which gradients will be asked for."""
    arrays, op = arguments[:_COUNT], _op(arguments[_COUNT:])
    asking = op.asking(*[is_differentiated(arrays[i]) for i in _WANTED])
    if not _asked(asking):
        with torch._C._AutoDispatchBelowAutograd():
            return _loss(*arguments)
    found: Array = _apply(_Loss, asking, *arrays)
    return found


def _once(operator: str) -> Callable[..., list[Array]]:
    """An operator beneath, where something above may be differentiated again: that is refused."""

    def beneath(*arguments: Any) -> list[Array]:
        with torch._C._AutoDispatchBelowAutograd():
            found: list[Array] = getattr(torch.ops.seqloss, operator)(*arguments)
        return found

    def watched(*arguments: Any) -> list[Array]:
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*arguments):
            return list(_apply(_Refusing, beneath, *arguments))
        return beneath(*arguments)

    return watched


def _one_by_one(operator: str) -> Callable[..., tuple[Any, Any]]:
    """How vmap sees an operator: as a call for each entry."""

    def mapped(info: Any, places: Sequence[Any], *arguments: Any) -> tuple[Any, Any]:
        call, found = getattr(torch.ops.seqloss, operator), []
        for i in range(info.batch_size):
            pairs = zip(arguments, places, strict=True)
            found.append(call(*[x.select(place, i) if isinstance(place, int) else x for x, place in pairs]))
        if isinstance(found[0], torch.Tensor):
            return torch.stack(found), 0
        return [torch.stack(parts) for parts in zip(*found, strict=True)], [0] * len(found[0])

    return mapped


def _apply(operation: Any, *arguments: Any) -> Any:
    # Beneath the dispatcher a level of torch.func that differentiates is autograd, for which this asks (torch 2.13).
    functorch = torch._C._functorch
    is_allowed = functorch.get_single_level_autograd_function_allowed()
    functorch.set_single_level_autograd_function_allowed(True)
    try:
        return super(torch.autograd.Function, operation).apply(*arguments)
    finally:
        functorch.set_single_level_autograd_function_allowed(is_allowed)


class _Loss(torch.autograd.Function):
    jvp = staticmethod(no_jvp)

    @staticmethod
    def forward(ctx: Any, op: Any, *arrays: Array | None) -> Array:
        # The levels beneath that of a torch.func.grad may watch, though autograd is off in here.
        with torch.enable_grad(), torch._C._AutoDispatchBelowAutograd():
            loss, *kept = torch.ops.seqloss.linear_forward(*arrays, None, *_lists(op.encoded()))
        ctx.op = op
        ctx.save_for_backward(*arrays, *kept)
        return loss

    @staticmethod
    def backward(ctx: Any, cotangent: Array) -> tuple[Array | None, ...]:
        saved = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return None, *_pulled(ctx.op, saved[:_COUNT], saved[_COUNT:], cotangent)

        def pulled(upstream: Array, *given: Array) -> tuple[Array, ...]:
            found = _pulled(ctx.op, given[:_COUNT], given[_COUNT:], upstream)
            return tuple(x for x in found if x is not None)

        return None, *_placed(ctx.op, _apply(_Refusing, pulled, cotangent, *saved))


class _Refusing(torch.autograd.Function):
    """A function that cannot be differentiated."""

    jvp = staticmethod(no_jvp)

    @staticmethod
    def forward(ctx: Any, function: Any, *arguments: Any) -> tuple[Array, ...]:
        with torch.enable_grad():  # as in _Loss
            return tuple(function(*arguments))

    @staticmethod
    def backward(ctx: Any, *cotangents: Array) -> Any:
        raise BackendError(EXACT_ONCE)


def _define() -> Any:
    optional = {"bias", "weights", "kept", "class_weights", "prior", "normalizer", "offsets"}
    arrays = ", ".join(f"Tensor{'?' if name in optional else ''} {name}" for name in _NAMES)
    lists = "float[] floats, SymInt[] ints, bool[] bools, str[] strs"
    library: Any = torch.library.Library("seqloss", "DEF")
    for name, more, returned, compute, fake, watched in (
        ("linear_loss", "", "Tensor", _loss, _loss_fake, _watched),
        ("linear_forward", "Tensor? cotangent, ", "Tensor[]", _forward, _forward_fake, _once("linear_forward")),
        (
            "linear_pullback",
            "Tensor losses, Tensor cotangent, ",
            "Tensor[]",
            _pullback,
            _pullback_fake,
            _once("linear_pullback"),
        ),
    ):
        # Old versions (before torch 2.8) have only the other of the two.
        strides = getattr(torch.Tag, "needs_exact_strides", None) or torch.Tag.needs_fixed_stride_order
        tags = (torch.Tag.pt2_compliant_tag, strides)
        library.define(f"{name}({arrays}, {more}{lists}) -> {returned}", tags=tags)
        library.impl(name, compute, "CompositeExplicitAutograd")
        library.impl(name, watched, "Autograd")
        torch.library.register_fake(f"seqloss::{name}", fake, lib=library)
        torch.library.register_vmap(f"seqloss::{name}", _one_by_one(name), lib=library)
    return library


_LIBRARY = _define()
"""Operators are there as long as this is."""
