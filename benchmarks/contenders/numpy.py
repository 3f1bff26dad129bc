"""NumPy: seqloss and what one writes by hand."""

from typing import Any

import numpy as np

import seqloss
from benchmarks.contenders import Batch, Contender
from seqloss.backends.numpy import threads as pool


def place(batch: Batch) -> Batch:
    return batch


def to_numpy(x: Any) -> Any:
    return np.asarray(x)


def threads() -> int:
    return pool.allowed()  # of seqloss; NumPy by itself has one


MODES = ("eager",)


def ours(mode: str, **options: Any) -> Any:
    return lambda z, y, w: lambda: seqloss.sequence_loss_and_grad(z, y, w, **options)


def _peer(z: Any, y: Any, w: Any) -> Any:
    index = y[..., None]

    def loss_and_grad() -> tuple[Any, Any]:
        shifted = z - z.max(-1, keepdims=True)
        exponentials = np.exp(shifted)
        total = exponentials.sum(-1, keepdims=True)
        nll = (np.log(total) - np.take_along_axis(shifted, index, -1))[..., 0]
        scale = (w / w.sum())[..., None]
        gradient = exponentials / total
        np.put_along_axis(gradient, index, np.take_along_axis(gradient, index, -1) - 1, -1)
        gradient *= scale
        return (nll * w).sum() / w.sum(), gradient

    return loss_and_grad


def _peer_forward(z: Any, y: Any, w: Any) -> Any:
    def loss() -> Any:
        shifted = z - z.max(-1, keepdims=True)
        total = np.exp(shifted).sum(-1, keepdims=True)
        nll = (np.log(total) - np.take_along_axis(shifted, y[..., None], -1))[..., 0]
        return (nll * w).sum() / w.sum()

    return loss


def forward(mode: str) -> tuple[Any, Any]:
    """The loss alone: ours and the peer's."""
    return lambda *arrays: lambda: seqloss.sequence_loss(*arrays), _peer_forward


CONTENDERS = (
    Contender("seqloss", "eager", True, ours("eager")),
    Contender("seqloss, exact", "eager", True, ours("eager", exact=True)),
    Contender("naive NumPy", "eager", False, _peer),
)
