"""Who is measured: seqloss and its peers, one module per framework.

Each module has the same names: ``CONTENDERS``, ``place`` (a batch as arrays of the framework), ``to_numpy`` (back),
``threads`` (how many the framework computes with), ``MODES``, ``ours`` (seqloss in a mode, with options) and
``forward`` (the losses alone, ours and the peer's). A contender takes the placed arrays and returns a callable without
arguments that computes the loss and its gradient to the logits, waits until both are there, and returns them.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Batch(NamedTuple):
    """NumPy arrays [batch, time, classes], [batch, time], [batch, time]."""

    logits: Any
    targets: Any
    weights: Any


class Contender(NamedTuple):
    name: str
    mode: str
    """How it runs: "eager", or by the name of the framework's compiler. Ratios are taken within a mode."""
    ours: bool
    """Whether it is seqloss. Ratios are taken to the first one that is not."""
    setup: Callable[..., Callable[[], tuple[Any, Any]]]


# What only a small call shows.
SMALL_ONLY = ("seqloss, labels unread",)


def load(framework: str) -> Any:
    return importlib.import_module(f"benchmarks.contenders.{framework}")


def make_batch(shape: list[int], padded: bool = False) -> Batch:
    """Random logits and labels. Weights near 1, or (padded) a mask that leaves out half of the tokens."""
    batch, time, classes = shape
    random = np.random.default_rng(0)
    logits = random.standard_normal((batch, time, classes), dtype=np.float32)
    targets = random.integers(0, classes, (batch, time))
    if padded:
        lengths = np.linspace(0, time, batch).round()
        weights = (np.arange(time) < lengths[:, None]).astype(np.float32)
    else:
        weights = random.uniform(0.5, 1.5, (batch, time)).astype(np.float32)
    return Batch(logits, targets, weights)
