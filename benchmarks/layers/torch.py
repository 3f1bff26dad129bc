"""PyTorch: seqloss, ``F.cross_entropy`` behind ``F.linear``, and ``F.linear_cross_entropy`` where it is.

The kernel is the weight of a linear layer, [classes, features], which seqloss gets transposed.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

import seqloss
from benchmarks.contenders import torch as of_logits
from benchmarks.layers import LOGITS, OURS, PRODUCTS, Contender, Layer

threads, to_numpy = of_logits.threads, of_logits.to_numpy
MAIN = "eager"
_CHUNKS = (128, 256, 512, 1024)


def place(batch: Layer) -> Layer:
    hidden, targets = torch.from_numpy(batch.hidden), torch.from_numpy(batch.targets)
    weight = torch.from_numpy(batch.kernel.T.copy())
    return Layer(hidden.requires_grad_(), weight.requires_grad_(), targets)


def forget(batch: Layer) -> None:
    """Let go of the gradients that the last call left."""
    batch.hidden.grad = batch.kernel.grad = None


def _products(mode: str) -> Callable[..., Any]:
    def products(h: Any, w: Any) -> Any:
        logits = h @ w.t()
        return logits @ w, logits.t() @ h

    run = torch.compile(products, dynamic=False) if mode == "compile" else products
    return lambda h, w, y: lambda: run(h.detach().flatten(0, 1), w.detach())


def _with_grad(function: Callable[..., Any]) -> Callable[..., Any]:
    def setup(h: Any, w: Any, y: Any) -> Callable[[], Any]:
        def loss_and_grad() -> Any:
            h.grad = w.grad = None  # else the gradients would be added up
            loss = function(h, w, y)
            loss.backward()
            return loss.detach(), h.grad, w.grad

        return loss_and_grad

    return setup


def _in(mode: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return _with_grad(torch.compile(function, dynamic=False) if mode == "compile" else function)


def ours(mode: str, chunk: int | None = None) -> Callable[..., Any]:
    return _in(mode, lambda h, w, y: seqloss.linear_sequence_loss(h, w.T, y, chunk=chunk))


def _of_logits(h: Any, w: Any, y: Any) -> Any:
    return seqloss.sequence_loss(F.linear(h, w), y)


def _peer(h: Any, w: Any, y: Any) -> Any:
    return F.cross_entropy(F.linear(h, w).flatten(0, 1), y.flatten())


def _chunked(**options: Any) -> Callable[..., Any]:
    made = torch.nn.LinearCrossEntropyOptions(**options)
    return _with_grad(lambda h, w, y: F.linear_cross_entropy(h.flatten(0, 1), w, y.flatten(), options=made))


def _peers() -> list[Contender]:
    """``F.linear_cross_entropy`` with its default chunk, and with those that may be its best."""
    if not hasattr(F, "linear_cross_entropy"):
        return []
    name = "F.linear_cross_entropy"
    sized = [Contender(f"{name}, chunk {size}", MAIN, _chunked(batch_chunk_size=size)) for size in _CHUNKS]
    return [Contender(name, MAIN, _chunked()), *sized]


CONTENDERS = (
    Contender(PRODUCTS, "eager", _products("eager")),
    Contender("F.cross_entropy of logits", "eager", _in("eager", _peer)),
    Contender(LOGITS, "eager", _in("eager", _of_logits)),
    *_peers(),
    Contender(OURS, "eager", ours("eager")),
    Contender(PRODUCTS, "compile", _products("compile")),
    Contender("F.cross_entropy of logits", "compile", _in("compile", _peer)),
    Contender(OURS, "compile", ours("compile")),
)
