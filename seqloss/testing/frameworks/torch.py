"""PyTorch: arrays, and the ways to run and differentiate a function."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

name = "torch"
DTYPES = ("float32", "float64", "float16", "bfloat16")


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


def device(x: Any) -> str:
    return str(x.device)


def precision(dtype: str) -> AbstractContextManager[Any]:
    return nullcontext()


def _eager(function: Any, arrays: Any, wrt: Any, cotangent: Any) -> tuple[Any, tuple[Any, ...]]:
    leaves = [x.detach().clone().requires_grad_() if i in wrt else x for i, x in enumerate(arrays)]
    value = function(*leaves)
    cotangent = torch.ones_like(value) if cotangent is None else cotangent
    gradients = torch.autograd.grad(value, [leaves[i] for i in wrt], cotangent, materialize_grads=True)
    return value.detach(), gradients


def _compiled(**options: Any) -> Any:
    def run(function: Any, arrays: Any, wrt: Any, cotangent: Any) -> Any:
        # Every case is its own compilation: without this the limit on recompilations is met.
        torch.compiler.reset()
        return _eager(torch.compile(function, fullgraph=True, **options), arrays, wrt, cotangent)

    return run


def _func(function: Any, arrays: Any, wrt: Any, cotangent: Any) -> tuple[Any, tuple[Any, ...]]:
    def of_leaves(*leaves: Any) -> Any:
        full = list(arrays)
        for i, leaf in zip(wrt, leaves, strict=True):
            full[i] = leaf
        return function(*full)

    value, pull = torch.func.vjp(of_leaves, *[arrays[i] for i in wrt])
    return value, pull(torch.ones_like(value) if cotangent is None else cotangent)


class _Module(torch.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arrays: Any) -> Any:
        return self.function(*arrays)


def _exported(function: Any, arrays: Any, wrt: Any, cotangent: Any) -> tuple[Any, tuple[Any, ...]]:
    program = torch.export.export(_Module(function), tuple(arrays)).module()
    return _eager(program, arrays, wrt, cotangent)


def _explicit_compiled(function: Any, arrays: Any) -> Any:
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")(*arrays)


def weighted(tokens: Any, weights: Any) -> Any:
    """The losses of tokens times their weights, in the dtype of the losses."""
    return tokens * weights.to(tokens.dtype)


def total(x: Any) -> Any:
    return x.sum()


def over(summed: Any, weights: Any) -> Any:
    """A sum of losses divided by the sum of the weights, added up in its dtype; 0 where that is 0."""
    count = weights.sum(dtype=summed.dtype)
    return torch.where(count == 0, torch.zeros_like(summed), summed / torch.where(count == 0, 1, count))


def hessian_product(function: Any, arrays: Any, direction: Any) -> Any:
    """The Hessian of a scalar function of its first array, times a direction."""
    first = arrays[0].detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(first, *arrays[1:]), first, create_graph=True)
    return torch.autograd.grad(gradient, first, direction)[0]


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


MODES = {
    "eager": _eager,
    "compile": _compiled(backend="aot_eager"),
    "compile-dynamic": _compiled(backend="aot_eager", dynamic=True),
    "func": _func,
    "export": _exported,
}
INDUCTOR = {"inductor": _compiled()}
COMPILERS = {"inductor": _inductor}
QUICK = None
EXPLICIT = {"explicit": lambda function, arrays: function(*arrays), "explicit-compile": _explicit_compiled}

# A kernel sees a dtype and a way to run independently of each other. So one half-precision dtype tells enough where a
# case is compiled, and float32 where another mode compiles the same operations.
FEWER_DTYPES = {
    "compile": ("float32", "float64", "bfloat16"),
    **dict.fromkeys(("compile-dynamic", "explicit-compile"), ("float32",)),
    **dict.fromkeys(("func", "export"), ("float32", "bfloat16")),
}
