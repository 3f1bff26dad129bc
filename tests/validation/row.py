"""What a row of the table is: a call that must raise, with the class and the full text of the error.

A plain NumPy array in a row stands for an array of the framework under test; a :class:`Raw` value is passed as it is.
``FRAMEWORK`` and ``ARRAY`` in a text stand for the framework's name and the name of its array type.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import seqloss

LOGITS = np.random.RandomState(7).randn(2, 3, 5).astype("float32")
TARGETS = np.array([[0, 1, 2], [3, 4, 0]], "int32")
WEIGHTS = np.array([[1, 1, 0], [0.5, 2, 0]], "float32")
LENGTHS = np.array([1, 3], "int32")
NO_FLAG = {"average_across_timesteps": False, "average_across_batch": False}


# Pieces of text that many rows share.
TARGETS_SIZE = "targets must have the shape [batch, time] = [2, 3] of logits, got"
EXACT = "every size must match, nothing is broadcast"
NO_CLASSES = "logits have no classes, got [2, 3, 0]; the last axis must hold at least one class"
FLOATS = "bfloat16, float16, float32, float64"
NO_IDS = "cast class ids to an integer dtype; for class probabilities use a soft-label cross entropy"
IDS_OR_SOFT = "cast class ids to an integer dtype, or pass class probabilities in the shape of logits"
FLAGS = ("average_across_timesteps", "average_across_batch", "sum_over_timesteps", "sum_over_batch")
AVERAGE_TIME, AVERAGE_BATCH, SUM_TIME, SUM_BATCH = FLAGS
UNLESS = (
    "set one of them to False (both average flags are True unless you say otherwise). A sum_over flag divides too, by "
    "the number of tokens of non-zero weight: for a plain sum pass reduction='sum' to seqloss.sequence_loss"
)
ONE = "because an axis has one denominator"
CLASS_SECOND = "if axis 1 holds the classes, move it to the end"
TOO_LARGE = "labels count from 0; is the vocabulary larger than the last axis of logits?"
KINDS = "not an array; pass an array of numpy, torch, tensorflow, jax, or a list of numbers"


def static(convert):
    """What is said about an array in the place of a Python value."""
    return (
        "it decides what is compiled, so it cannot be traced: make it static, as with functools.partial or "
        f"jax.jit(..., static_argnames=...), or convert it with {convert}(...)"
    )


class PackedSequence(NamedTuple):
    """What stands for PyTorch's tuple of that name, in every framework: it is told by its name and module."""

    data: Any
    batch_sizes: Any
    sorted_indices: Any = None
    unsorted_indices: Any = None


PackedSequence.__module__ = "torch.nn.utils.rnn"


class Raw(NamedTuple):
    """A value for every framework alike."""

    value: Any


class Listed(NamedTuple):
    """A Python list of the rows of an array, each an array of the framework."""

    array: Any


class Row(NamedTuple):
    name: str
    error: type[Exception]
    text: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    unlike: Mapping[str, str]
    """Where the row does not hold, with the reason: a framework, "eager", "traced" or "<framework>-<way>"."""


IN_A_GRAPH = {"torch-fullgraph": "PyTorch traces NumPy values as tensors, which it refuses before the check is reached"}


def in_a_graph(value):
    return IN_A_GRAPH if isinstance(value, (np.ndarray, np.generic)) else None


def row(function, standard, name, error, text, unlike=None, /, **changes):
    return Row(name, error, text, function, {**standard, **changes}, unlike or {})


STANDARD = {"logits": LOGITS, "targets": TARGETS, "weights": WEIGHTS}
loss = functools.partial(row, seqloss.sequence_loss, STANDARD)
gradient = functools.partial(row, seqloss.sequence_loss_and_grad, STANDARD)
tokens = functools.partial(row, seqloss.token_loss, {"logits": LOGITS, "targets": TARGETS})
mask = functools.partial(row, seqloss.sequence_mask, {"lengths": LENGTHS, "maxlen": 3})
backend = functools.partial(row, seqloss.register_backend, {})


def like(array, *shape):
    """Ones of the dtype of an array in another shape."""
    return np.ones(shape, array.dtype)


def edited(array, **places):
    """A copy with other entries, named as in ``at_1_2=7``."""
    array = array.copy()
    for place, value in places.items():
        array[tuple(int(i) for i in place.split("_")[1:])] = value
    return array
