"""PyTorch: arrays, and the ways to run and differentiate a function."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from seqloss.testing.frameworks.capabilities import Capabilities

name = "torch"
DTYPES = ("float32", "float64", "float16", "bfloat16")
CAN = Capabilities(DTYPES, forgetful=("export",))


def array(x: Any, dtype: str | None = None) -> Any:
    result = torch.from_numpy(np.array(x))
    return result if dtype is None else result.to(getattr(torch, dtype))


def to_numpy(x: Any) -> Any:
    x = x.detach().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def writable(x: Any) -> Any:
    return x


def dtype(x: Any) -> str:
    return str(x.dtype).removeprefix("torch.")


def is_array(x: Any) -> bool:
    return isinstance(x, torch.Tensor)


def dense(x: Any) -> Any:
    return x.to_dense() if x.layout is torch.sparse_coo else x


def transposed(x: Any) -> Any:
    return x.T


def device(x: Any) -> str:
    return str(x.device)


def precision(dtype: str) -> AbstractContextManager[Any]:
    return nullcontext()


def _eager(function: Any, wrt: Any) -> Any:
    def run(arrays: Any, cotangent: Any) -> tuple[Any, tuple[Any, ...]]:
        leaves = [x.detach().clone().requires_grad_() if i in wrt else x for i, x in enumerate(arrays)]
        value = function(*leaves)
        cotangent = torch.ones_like(value) if cotangent is None else cotangent
        gradients = torch.autograd.grad(value, [leaves[i] for i in wrt], cotangent, materialize_grads=True)
        return value.detach(), gradients

    return run


def _kept(function: Any, kind: Any, make: Any) -> Any:
    """``function`` as the program that ``make(function, arrays)`` is, one for each ``kind(arrays)`` of arguments."""
    programs: dict[Any, Any] = {}

    def run(*arrays: Any) -> Any:
        key = kind(arrays)
        if key not in programs:
            programs[key] = make(function, arrays)
        return programs[key](*arrays)

    return run


def _static(arrays: Any) -> Any:
    return tuple(None if x is None else (x.shape, x.dtype, x.requires_grad) for x in arrays)


def _dynamic(arrays: Any) -> Any:
    """Sizes of 0 and 1 are constants to torch.compile, all others are one."""
    return tuple((tuple(min(n, 2) for n in shape), *rest) for shape, *rest in _static(arrays))


def _compiling(kind: Any = _static, **options: Any) -> Any:
    def make(function: Any, arrays: Any) -> Any:
        def entry(*arrays: Any) -> Any:
            return function(*arrays)

        # Recompilations are counted, and limited, by code object: each program has one of its own.
        entry.__code__ = entry.__code__.replace()
        return torch.compile(entry, fullgraph=True, **options)

    return lambda function: _kept(function, kind, make)


def _compiled(*kind: Any, **options: Any) -> Any:
    compiling = _compiling(*kind, **options)
    return lambda function, wrt: _eager(compiling(function), wrt)


def _func(function: Any, wrt: Any) -> Any:
    def run(arrays: Any, cotangent: Any) -> tuple[Any, tuple[Any, ...]]:
        def of_leaves(*leaves: Any) -> Any:
            full = list(arrays)
            for i, leaf in zip(wrt, leaves, strict=True):
                full[i] = leaf
            return function(*full)

        value, pull = torch.func.vjp(of_leaves, *[arrays[i] for i in wrt])
        return value, pull(torch.ones_like(value) if cotangent is None else cotangent)

    return run


class _Module(torch.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arrays: Any) -> Any:
        return self.function(*arrays)


def _exported(function: Any, wrt: Any) -> Any:
    def make(function: Any, arrays: Any) -> Any:
        return torch.export.export(_Module(function), tuple(arrays)).module()

    return _eager(_kept(function, _static, make), wrt)


def weighted(tokens: Any, weights: Any) -> Any:
    """The losses of tokens times their weights, in the dtype of the losses."""
    return tokens * weights.to(tokens.dtype)


def total(x: Any) -> Any:
    return x.sum()


def identity(x: Any) -> Any:
    """The matrix by which the last axis of an array is multiplied without a change."""
    return torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)


def over(summed: Any, weights: Any) -> Any:
    """A sum of losses divided by the sum of the weights, added up in its dtype; 0 where that is 0."""
    count = weights.sum(dtype=summed.dtype)
    return torch.where(count == 0, torch.zeros_like(summed), summed / torch.where(count == 0, 1, count))


def hessian_product(function: Any, arrays: Any, direction: Any) -> Any:
    """The Hessian of a scalar function of its first array, times a direction."""
    first = arrays[0].detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(first, *arrays[1:]), first, create_graph=True)
    return torch.autograd.grad(gradient, first, direction)[0]


def pullback(function: Any, arrays: Any) -> Any:
    """The backward pass of a scalar function of its first array, which can be asked for again."""
    first = arrays[0].detach().clone().requires_grad_()
    value = function(first, *arrays[1:])
    return lambda: torch.autograd.grad(value, first, retain_graph=True)[0]


def mapped(function: Any, batches: Any) -> Any:
    """Values and gradients of a scalar function, mapped over the batches: lists of its arrays, of the same shapes."""
    stacks = [torch.stack(arrays) for arrays in zip(*batches, strict=True)]
    slopes, values = torch.func.vmap(torch.func.grad_and_value(function))(*stacks)
    return values, slopes


@contextmanager
def many_shapes() -> Iterator[None]:
    """Where a function that is compiled already may be compiled again for any number of shapes.

    Beyond a few torch.compile gives up, with an error or by quietly running the function eagerly.
    """
    import torch._dynamo  # where it is not loaded yet, the function may load it

    limits = ("recompile_limit", "accumulated_recompile_limit")
    with torch._dynamo.config.patch(dict.fromkeys(limits, 1_000_000)):
        yield


def _inductor(function: Any) -> Any:
    """Compiled anew for every shape: beyond a number of recompilations torch would quietly run it eagerly."""
    compiled: dict[Any, Any] = {}

    def run(*arrays: Any) -> Any:
        shapes = tuple(x.shape for x in arrays)
        if shapes not in compiled:
            torch.compiler.reset()
            compiled.clear()
            compiled[shapes] = torch.compile(function, dynamic=False)
        return compiled[shapes](*arrays)

    return run


def _strict(function: Any, wrt: Any) -> Any:
    """Where PyTorch refuses what may differ from run to run, and looks for NaN in each gradient."""
    eager = _eager(function, wrt)

    def run(arrays: Any, cotangent: Any) -> Any:
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True)
        try:
            with torch.autograd.set_detect_anomaly(True, check_nan=True):
                return eager(arrays, cotangent)
        finally:
            torch.use_deterministic_algorithms(before)

    return run


def _counted(function: Any, wrt: Any) -> Any:
    """With all operations shown to a mode, so that none can be left to NumPy."""
    eager = _eager(function, wrt)

    def run(arrays: Any, cotangent: Any) -> Any:
        with FlopCounterMode(display=False):
            return eager(arrays, cotangent)

    return run


MODES = {
    "eager": _eager,
    "compile": _compiled(backend="aot_eager"),
    "compile-dynamic": _compiled(_dynamic, backend="aot_eager", dynamic=True),
    "func": _func,
    "export": _exported,
}
SETTINGS = {"strict": _strict, "dispatch-mode": _counted}
FINITE = ("strict",)
INDUCTOR = {"inductor": _compiled()}
COMPILERS = {"inductor": _inductor}
QUICK = None


def _transposed(x: Any) -> Any:
    return x.transpose(0, -1).contiguous().transpose(0, -1)


def _with_gaps(x: Any) -> Any:
    return torch.stack([x, torch.zeros_like(x)], -1)[..., 0]


@contextmanager
def _default_float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


LAYOUTS = {"transposed": _transposed, "gappy": _with_gaps}
UNRECORDED = {"under no_grad": torch.no_grad, "in inference mode": torch.inference_mode}
SURROUNDINGS = {"float64 as the default dtype": _default_float64}
EXPLICIT = {"explicit": lambda function: function, "explicit-compile": _compiling(backend="aot_eager")}

# The first is the one that is asked everything by default.
COMPILED = ("compile", "compile-dynamic", "export", "explicit-compile", "inductor")
# A kernel sees a dtype and a way to run independently of each other. So one half-precision dtype tells enough where a
# case is compiled, and float32 where another mode compiles the same operations.
FEWER_DTYPES = {
    "compile": ("float32", "float64", "bfloat16"),
    **dict.fromkeys(("compile-dynamic", "explicit-compile"), ("float32",)),
    **dict.fromkeys(("func", "export"), ("float32", "bfloat16")),
}
