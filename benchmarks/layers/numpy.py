"""NumPy: seqloss and what one writes by hand."""

from typing import Any

import numpy as np

import seqloss
from benchmarks.contenders import numpy as of_logits
from benchmarks.layers import LOGITS, OURS, PRODUCTS, Contender, Layer

threads, to_numpy = of_logits.threads, of_logits.to_numpy
MAIN = "eager"


def place(batch: Layer) -> Layer:
    return batch


def _flat(h: Any) -> Any:
    return h.reshape(-1, h.shape[-1])


def forget(batch: Layer) -> None:
    """Nothing is kept in the arrays."""


def _products(h: Any, k: Any, y: Any) -> Any:
    def products() -> Any:
        logits = _flat(h) @ k
        return logits @ k.T, _flat(h).T @ logits

    return products


def ours(mode: str, chunk: int | None = None) -> Any:
    return lambda h, k, y: lambda: _parts(seqloss.linear_sequence_loss_and_grad(h, k, y, chunk=chunk))


def _parts(found: Any) -> Any:
    loss, (to_hidden, to_kernel) = found
    return loss, to_hidden, to_kernel


def _of_logits(loss_and_grad: Any) -> Any:
    def setup(h: Any, k: Any, y: Any) -> Any:
        def whole() -> Any:
            loss, slope = loss_and_grad((_flat(h) @ k).reshape(*y.shape, -1), y)
            slope = _flat(slope)
            return loss, (slope @ k.T).reshape(h.shape), _flat(h).T @ slope

        return whole

    return setup


def _naive(z: Any, y: Any) -> Any:
    """In the memory of the logits, where a program by hand would not be shorter for it."""
    index = y[..., None]
    z -= z.max(-1, keepdims=True)
    target = np.take_along_axis(z, index, -1)[..., 0]
    np.exp(z, out=z)
    total = z.sum(-1, keepdims=True)
    z /= total * np.float32(y.size)
    np.put_along_axis(z, index, np.take_along_axis(z, index, -1) - np.float32(1 / y.size), -1)
    return (np.log(total[..., 0]) - target).mean(), z


CONTENDERS = (
    Contender(PRODUCTS, MAIN, _products),
    Contender("naive NumPy of logits", MAIN, _of_logits(_naive)),
    Contender(LOGITS, MAIN, _of_logits(seqloss.sequence_loss_and_grad)),
    Contender(OURS, MAIN, ours(MAIN)),
)
