"""The logits of a loss that makes them itself, from what it was given."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from seqloss.core.errors import DTypeError, ShapeError
from seqloss.testing.comparison import sides

Array = Any


def logits(named: Mapping[str, Any]) -> tuple[Array, str]:
    """The logits, added up in float64, and the dtype of hidden."""
    hidden, kernel = (sides.read(name, named[name]) for name in ("hidden", "kernel"))
    x, matrix = hidden.values, kernel.values
    for name, array, rank in (("hidden", x, 3), ("kernel", matrix, 2)):
        if array.dtype.kind != "f":
            raise DTypeError(f"{name} is of dtype {array.dtype}; expected floats")
        if array.ndim != rank:
            raise ShapeError(f"{name} has the shape {list(array.shape)}; expected {rank} axes")
    if x.shape[-1] != len(matrix):
        raise ShapeError(
            f"hidden {list(x.shape)} and kernel {list(matrix.shape)} have other numbers of features; expected a kernel "
            "[features, classes], the transpose of what torch.nn.Linear has"
        )
    given = named.get("bias")
    bias = np.zeros(matrix.shape[1]) if given is None else sides.read("bias", given).values
    if bias.shape != matrix.shape[1:]:
        raise ShapeError(f"bias has the shape {bias.shape}; expected one number for each of {matrix.shape[1]} classes")
    with np.errstate(all="ignore"):
        made: Array = x.astype(np.float64) @ matrix.astype(np.float64) + bias.astype(np.float64)
    return made, hidden.dtype
