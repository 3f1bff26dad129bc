"""JAX: seqloss and optax."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import seqloss
from benchmarks import machine
from benchmarks.contenders import Batch, Contender


def place(batch: Batch) -> Batch:
    # Copies, finished ones: shared with NumPy or still under way, they would spoil the measure of memory.
    return Batch(*(jax.block_until_ready(jnp.array(array)) for array in batch))


def to_numpy(x: Any) -> Any:
    return np.asarray(x)


def threads() -> int:
    return machine.cores()  # XLA's pool on CPU has one thread per core that the process may use


def weighted_mean(z: Any, y: Any, w: Any) -> Any:
    """The weighted loss as it is written by hand."""
    import optax  # here, so that seqloss is measured without it too

    losses = optax.softmax_cross_entropy_with_integer_labels(z, y) * w
    return losses.sum() / w.sum()


def masked_mean(z: Any, y: Any, w: Any) -> Any:
    """The same with the mask of optax: where it is False nothing is looked at, so that NaN and -100 do no harm."""
    import optax

    losses = optax.softmax_cross_entropy_with_integer_labels(z, y, where=w != 0) * w
    return losses.sum() / w.sum()


def _bound(step: Callable[..., Any]) -> Callable[..., Any]:
    return lambda z, y, w: lambda: jax.block_until_ready(step(z, y, w))


def _eager(function: Callable[..., Any]) -> Callable[..., Any]:
    return _bound(jax.value_and_grad(function))


def _jit(function: Callable[..., Any]) -> Callable[..., Any]:
    return _bound(jax.jit(jax.value_and_grad(function)))


_WAYS = {"eager": _eager, "jit": _jit}
MODES = tuple(_WAYS)


def ours(mode: str, **options: Any) -> Any:
    return _WAYS[mode](partial(seqloss.sequence_loss, **options))


def forward(mode: str) -> tuple[Any, Any]:
    """The loss alone: ours and the peer's."""
    ours, peer = (_bound(jax.jit(f) if mode == "jit" else f) for f in (seqloss.sequence_loss, weighted_mean))
    return ours, peer


CONTENDERS = (
    Contender("seqloss", "eager", True, ours("eager")),
    Contender("optax * w", "eager", False, _eager(weighted_mean)),
    Contender("optax where=", "eager", False, _eager(masked_mean)),
    Contender("seqloss", "jit", True, ours("jit")),
    Contender("optax * w", "jit", False, _jit(weighted_mean)),
    Contender("optax where=", "jit", False, _jit(masked_mean)),
)
