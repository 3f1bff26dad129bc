"""Who is measured by ``linear``: the loss of a linear layer, ours and its peers, one module per framework.

Each module has the same names: ``CONTENDERS``, ``place`` (a batch as arrays of the framework), ``to_numpy`` (back),
``forget`` (what a call leaves in the arrays), ``threads``, ``MAIN`` (the mode in which chunks are compared), ``ours``.
A contender takes the placed arrays and returns a callable without arguments that computes the loss and the gradients
of hidden and kernel, waits until they are there, and returns them. The first one of a mode makes three products of
matrices of the same shapes, into new memory, and nothing else: it is the unit.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

PRODUCTS = "three products"
OURS = "linear_sequence_loss"
LOGITS = "sequence_loss of logits"


class Layer(NamedTuple):
    """NumPy arrays [batch, time, features], [features, classes], [batch, time]."""

    hidden: Any
    kernel: Any
    targets: Any


class Contender(NamedTuple):
    name: str
    mode: str
    setup: Callable[..., Callable[[], Any]]
    chunk: int | None = None
    """Of ours; None: its default, or that of a peer."""


def load(framework: str) -> Any:
    return importlib.import_module(f"benchmarks.layers.{framework}")


def make_batch(shape: list[int]) -> Layer:
    """Random numbers for [batch, time, features, classes]; every token counts, so that no peer has to weigh."""
    batch, time, features, classes = shape
    random = np.random.default_rng(0)
    hidden = random.standard_normal((batch, time, features), dtype=np.float32)
    kernel = random.standard_normal((features, classes), dtype=np.float32) / np.float32(features**0.5)
    return Layer(hidden, kernel, random.integers(0, classes, (batch, time)))


def chosen(framework: str, name: str, mode: str, chunk: int | None) -> Contender:
    """A contender by its name; a chunk makes ours of it with such chunks."""
    module = load(framework)
    if chunk is not None:
        return Contender(name, mode, module.ours(mode, chunk), chunk)
    found: Contender = next(each for each in module.CONTENDERS if (each.name, each.mode) == (name, mode))
    return found
