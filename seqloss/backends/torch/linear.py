"""PyTorch: the loss of hidden states and a kernel, and products of matrices. The rules are in ``seqloss.core.linear``.

Eager arrays on the CPU go to NumPy's loop, which has its products made here. Autocast changes nothing: it would round
the logits, and runs losses in float32 anyway.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from seqloss.backends import chunks
from seqloss.backends.torch.mesh import see_plain
from seqloss.core.linear import LinearFound, LinearSpec, Step, Tokens
from seqloss.core.protocol import Array


def linear(
    step: Step,
    hidden: Array,
    kernel: Array,
    bias: Array | None,
    of_tokens: Tokens,
    spec: LinearSpec,
) -> LinearFound:
    import seqloss.backends.torch as backend

    see_plain((hidden, kernel, bias))
    with _without_autocast(hidden.device.type):
        return chunks.linear(backend, step, hidden, kernel, bias, of_tokens, spec)


def _without_autocast(device: str) -> AbstractContextManager[Any]:
    """Some devices have none, as "meta"."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def matmul(a: Array, b: Array, *, dtype: str) -> Array:
    narrow = torch.bfloat16, torch.float16
    if a.is_cuda and a.dtype == b.dtype and a.dtype in narrow and dtype == "float32":
        # The tensor cores add up in float32; torch 2.13 has this on no other device.
        return torch.mm(a, b, out_dtype=torch.float32)
    wide = getattr(torch, dtype)
    return a.to(wide) @ b.to(wide)


class Products:
    """The products of PyTorch, in its threads, on the memory of NumPy arrays."""

    def product(self, a: Any, b: Any, out: Any) -> Any:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            torch.mm(torch.from_numpy(a), torch.from_numpy(b), out=torch.from_numpy(out))
        return out

    def add_product(self, total: Any, a: Any, b: Any) -> None:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            torch.from_numpy(total).addmm_(torch.from_numpy(a), torch.from_numpy(b))
