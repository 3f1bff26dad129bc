"""TensorFlow: seqloss and ``tf.nn.sparse_softmax_cross_entropy_with_logits``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

import seqloss
from benchmarks import machine
from benchmarks.contenders import Batch, Contender


def place(batch: Batch) -> Batch:
    return Batch(*(tf.constant(array) for array in batch))


def to_numpy(x: Any) -> Any:
    return x.numpy()


def threads() -> int:
    return tf.config.threading.get_intra_op_parallelism_threads() or machine.cores()  # 0 stands for all cores


def weighted_mean(z: Any, y: Any, w: Any) -> Any:
    """The weighted loss as it is written by hand."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z) * w
    return tf.reduce_sum(losses) / tf.reduce_sum(w)


def _with_grad(function: Callable[..., Any]) -> Callable[..., Any]:
    def loss_and_grad(z: Any, y: Any, w: Any) -> tuple[Any, Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(z)
            loss = function(z, y, w)
        return loss, tape.gradient(loss, z)

    return loss_and_grad


def _eager(function: Callable[..., Any]) -> Callable[..., Any]:
    step = _with_grad(function)
    return lambda z, y, w: lambda: step(z, y, w)


def _xla(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda z, y, w: _bound(tf.function(_with_grad(function), jit_compile=True), z, y, w)


def _bound(step: Callable[..., Any], *arrays: Any) -> Callable[[], tuple[Any, Any]]:
    return lambda: step(*arrays)


_WAYS = {"eager": _eager, "XLA": _xla}
MODES = tuple(_WAYS)


def ours(mode: str, **options: Any) -> Any:
    return _WAYS[mode](partial(seqloss.sequence_loss, **options))


def forward(mode: str) -> tuple[Any, Any]:
    """The loss alone: ours and the peer's."""

    def setup(function: Callable[..., Any]) -> Callable[..., Any]:
        step = tf.function(function, jit_compile=True) if mode == "XLA" else function
        return partial(_bound, step)

    return setup(seqloss.sequence_loss), setup(weighted_mean)


CONTENDERS = (
    Contender("seqloss", "eager", True, ours("eager")),
    Contender("sparse_softmax_ce * w", "eager", False, _eager(weighted_mean)),
    Contender("seqloss", "XLA", True, ours("XLA")),
    Contender("sparse_softmax_ce * w", "XLA", False, _xla(weighted_mean)),
)
