"""TensorFlow: seqloss, and ``tf.nn.sparse_softmax_cross_entropy_with_logits`` behind a product."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

import seqloss
from benchmarks.contenders import tensorflow as of_logits
from benchmarks.layers import LOGITS, OURS, PRODUCTS, Contender, Layer

threads, to_numpy = of_logits.threads, of_logits.to_numpy
MAIN = "function"


def place(batch: Layer) -> Layer:
    return Layer(*(tf.constant(array) for array in batch))


def _flat(h: Any) -> Any:
    return tf.reshape(h, [-1, h.shape[-1]])


def _product(h: Any, k: Any) -> Any:
    """As one product of matrices, which TensorFlow makes of no other form by itself."""
    return tf.reshape(tf.matmul(_flat(h), k), [*h.shape[:-1], -1])


def forget(batch: Layer) -> None:
    """Nothing is kept in the arrays."""


def _products(mode: str) -> Callable[..., Any]:
    def products(h: Any, k: Any) -> Any:
        logits = tf.matmul(h, k)
        return tf.matmul(logits, k, transpose_b=True), tf.matmul(h, logits, transpose_a=True)

    run = tf.function(products) if mode == "function" else products
    return lambda h, k, y: lambda: run(_flat(h), k)


def _in(mode: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def loss_and_grad(h: Any, k: Any, y: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([h, k])
            loss = function(h, k, y)
        return loss, *tape.gradient(loss, [h, k])

    step = tf.function(loss_and_grad) if mode == "function" else loss_and_grad
    return lambda h, k, y: lambda: step(h, k, y)


def ours(mode: str, chunk: int | None = None) -> Callable[..., Any]:
    return _in(mode, lambda h, k, y: seqloss.linear_sequence_loss(h, k, y, chunk=chunk))


def _of_logits(h: Any, k: Any, y: Any) -> Any:
    return seqloss.sequence_loss(_product(h, k), y)


def _peer(h: Any, k: Any, y: Any) -> Any:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=_product(h, k)))


CONTENDERS = tuple(
    Contender(name, mode, setup)
    for mode in ("eager", "function")
    for name, setup in (
        (PRODUCTS, _products(mode)),
        ("sparse_softmax_ce of logits", _in(mode, _peer)),
        (LOGITS, _in(mode, _of_logits)),
        (OURS, ours(mode)),
    )
)
