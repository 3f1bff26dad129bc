"""JAX: seqloss, and optax behind a product."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import seqloss
from benchmarks.contenders import jax as of_logits
from benchmarks.layers import LOGITS, OURS, PRODUCTS, Contender, Layer

threads, to_numpy = of_logits.threads, of_logits.to_numpy
MAIN = "jit"


def place(batch: Layer) -> Layer:
    # Copies, finished ones: shared with NumPy or still under way, they would spoil the measure of memory.
    return Layer(*(jax.block_until_ready(jnp.array(array)) for array in batch))


def forget(batch: Layer) -> None:
    """Nothing is kept in the arrays."""


def _products(h: Any, k: Any, y: Any) -> Any:
    @jax.jit
    def products(h: Any, k: Any) -> Any:
        logits = h @ k
        return logits @ k.T, h.T @ logits

    flat = h.reshape(-1, h.shape[-1])
    return lambda: jax.block_until_ready(products(flat, k))


def _jit(function: Callable[..., Any]) -> Callable[..., Any]:
    step = jax.jit(jax.value_and_grad(function, argnums=(0, 1)))

    def setup(h: Any, k: Any, y: Any) -> Callable[[], Any]:
        def run() -> Any:
            loss, (to_hidden, to_kernel) = jax.block_until_ready(step(h, k, y))
            return loss, to_hidden, to_kernel

        return run

    return setup


def ours(mode: str, chunk: int | None = None) -> Callable[..., Any]:
    return _jit(lambda h, k, y: seqloss.linear_sequence_loss(h, k, y, chunk=chunk))


def _of_logits(h: Any, k: Any, y: Any) -> Any:
    return seqloss.sequence_loss(h @ k, y)


def _peer(h: Any, k: Any, y: Any) -> Any:
    import optax  # here, so that seqloss is measured without it too

    return optax.softmax_cross_entropy_with_integer_labels(h @ k, y).mean()


CONTENDERS = (
    Contender(PRODUCTS, MAIN, _products),
    Contender("optax of logits", MAIN, _jit(_peer)),
    Contender(LOGITS, MAIN, _jit(_of_logits)),
    Contender(OURS, MAIN, ours(MAIN)),
)
