"""Arrays of a backend from NumPy's, and whether its arrays are what NumPy says they must be."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from seqloss.core.dtypes import INTEGERS, compute_dtype
from seqloss.core.protocol import Array, Backend
from seqloss.testing import tolerances

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


def float_dtypes(backend: Backend) -> list[str]:
    """The float dtypes that the framework keeps: JAX has no float64 unless it is told to."""
    return [d for d in ("float32", "float16", "float64") if backend.dtype(backend.asarray(np.zeros(1, d))) == d]


def form(backend: Backend, what: str, got: Any, shape: tuple[int, ...], dtype: str) -> Iterator[str]:
    if not backend.owns(got):
        yield f"{what} is a {type(got).__qualname__}, which the backend does not own"
    elif (backend.dtype(got), backend.shape(got)) != (dtype, shape):
        yield f"{what} is {backend.dtype(got)} of the shape {backend.shape(got)}, expected {dtype} of {shape}"


def values(
    backend: Backend, what: str, got: Any, expected: Array, bound: Array, dtype: str, scale: Array = 0.0
) -> Iterator[str]:
    """The first value that leaves the table of tolerances, and the first zero that is not exact.

    ``dtype`` is that of the logits, and ``scale`` the size of what was added up, 0 where nothing can cancel.
    """
    result = np.asarray(backend.to_numpy(got))
    if result.shape != expected.shape:
        return  # its form was reported
    compute = compute_dtype(dtype)
    distance = tolerances.excess(result, expected, result.dtype.name, bound, scale, compute)
    # Zero because nothing was added up, not because summands cancelled.
    bad = (distance > 1) | ((expected == 0) & (scale == 0) & (result != 0))
    for place in np.argwhere(bad)[:1]:
        at = tuple(int(i) for i in place)
        yield f"{what} is {result[at]} at {list(at)}, expected {float(expected[at])}"


def watched(backend: Backend, function: Callable[..., Any], arguments: list[Any]) -> tuple[Any, list[str]]:
    """The result of a call, and which arguments it wrote into."""
    flat = [x for argument in arguments for x in (argument if isinstance(argument, tuple) else (argument,))]
    arrays = [x for x in flat if x is not None and not isinstance(x, (bool, str))]
    before = [np.array(backend.to_numpy(x)) for x in arrays]
    with backend.scope(None):
        result = function(*arguments)
    pairs = zip(arrays, before, strict=True)
    changed = [not np.array_equal(backend.to_numpy(x), old, equal_nan=True) for x, old in pairs]
    return result, ["writes into an argument"] if any(changed) else []


def densified(gradient: Any, backend: Backend) -> Any:
    """A gradient of few rows as an array, in one of the forms that frameworks give it."""
    if backend.owns(gradient):
        return gradient if backend.dense_form(gradient) is None else gradient.to_dense()
    rows = [np.asarray(backend.to_numpy(x)) for x in (gradient.values, gradient.indices, gradient.dense_shape)]
    dense = np.zeros(rows[2], rows[0].dtype)
    np.add.at(dense, rows[1], rows[0])
    return backend.asarray(dense)
