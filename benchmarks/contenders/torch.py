"""PyTorch: seqloss and ``F.cross_entropy``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

import seqloss
from benchmarks.contenders import Batch, Contender


def place(batch: Batch, dtype: str = "float32", device: str = "cpu") -> Batch:
    logits, targets, weights = (torch.from_numpy(array).to(device) for array in batch)
    return Batch(logits.to(getattr(torch, dtype)).requires_grad_(), targets, weights)


def to_numpy(x: Any) -> Any:
    return x.detach().float().cpu().numpy()


def threads() -> int:
    return torch.get_num_threads()


def weighted_mean(z: Any, y: Any, w: Any) -> Any:
    """The weighted loss as it is written by hand, in float32 as mixed-precision training does it."""
    losses = F.cross_entropy(z.view(-1, z.shape[-1]).float(), y.view(-1), reduction="none") * w.view(-1)
    return losses.sum() / w.sum()


def _with_grad(function: Callable[..., Any]) -> Callable[..., Any]:
    def setup(z: Any, y: Any, w: Any) -> Callable[[], tuple[Any, Any]]:
        def loss_and_grad() -> tuple[Any, Any]:
            z.grad = None  # else the gradients would be added up
            loss = function(z, y, w)
            loss.backward()
            return loss.detach(), z.grad

        return loss_and_grad

    return setup


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch._dynamo

    # One program for each size of a run, and more sizes than torch 2.13 allows by default.
    torch._dynamo.config.recompile_limit = 64
    return _with_grad(torch.compile(function, fullgraph=True, dynamic=False))


_WAYS = {"eager": _with_grad, "compile": _compiled}
MODES = tuple(_WAYS)


def ours(mode: str, **options: Any) -> Any:
    return _WAYS[mode](partial(seqloss.sequence_loss, **options))


def forward(mode: str) -> tuple[Any, Any]:
    """The loss alone, where no gradient will be asked for: ours and the peer's."""

    def without_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
        function = torch.compile(function, fullgraph=True, dynamic=False) if mode == "compile" else function
        return lambda z, y, w: partial(function, z.detach(), y, w)

    return without_gradient(seqloss.sequence_loss), without_gradient(weighted_mean)


CONTENDERS = (
    Contender("seqloss", "eager", True, ours("eager")),
    Contender("seqloss, labels unread", "eager", True, ours("eager", check_labels=False)),
    Contender("seqloss, exact", "eager", True, ours("eager", exact=True)),
    Contender("F.cross_entropy * w", "eager", False, _with_grad(weighted_mean)),
    Contender("seqloss", "compile", True, ours("compile")),
    Contender("F.cross_entropy * w", "compile", False, _compiled(weighted_mean)),
)
