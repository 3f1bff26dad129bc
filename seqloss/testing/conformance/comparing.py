"""Arrays of a backend from NumPy's, and whether its arrays are what NumPy says they must be."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from seqloss.core.dtypes import INTEGERS
from seqloss.core.protocol import Array, Backend

FLOATS = np.array([[1.5, -2.0, 0.0], [4.0, np.nan, np.inf]], np.float32)
FINITE = np.array([[1.5, -2.0, 0.0], [4.0, 8.0, -0.25]], np.float32)
BOOLS = np.array([[True, False, True], [False, False, True]])
INTS = np.array([[3, -1, 0], [7, 2, 1]], np.int32)


def different(backend: Backend, what: str, got: Any, expected: Array) -> Iterator[str]:
    """What is wrong with an array: framework, dtype, shape, then values. Any integer dtype will do for integers."""
    if not backend.owns(got):
        yield f"{what} is a {type(got).__qualname__}, which the backend does not own"
        return
    dtype, wanted = backend.dtype(got), expected.dtype.name
    if dtype != wanted and not (dtype in INTEGERS and wanted in INTEGERS):
        yield f"{what} is {dtype}, expected {wanted}"
    elif backend.shape(got) != expected.shape:
        yield f"{what} has the shape {backend.shape(got)}, expected {expected.shape}"
    else:
        values = np.asarray(backend.to_numpy(got))
        if not np.array_equal(values, expected, equal_nan=True):
            yield f"{what} is {values.tolist()}, expected {expected.tolist()}"
