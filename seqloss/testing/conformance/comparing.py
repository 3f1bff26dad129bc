"""Arrays of a backend from NumPy's, and whether its arrays are what NumPy says they must be."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqloss.core.dtypes import INTEGERS, compute_dtype
from seqloss.core.protocol import Array, Backend
from seqloss.testing import tolerances

FLOATS = np.array([[1.5, -2.0, 0.0], [4.0, np.nan, np.inf]], np.float32)
FINITE = np.array([[1.5, -2.0, 0.0], [4.0, 8.0, -0.25]], np.float32)
BOOLS = np.array([[True, False, True], [False, False, True]])
INTS = np.array([[3, -1, 0], [7, 2, 1]], np.int32)

Check = Callable[[Backend], Iterator[str]]


def several(*checks: Check) -> Check:
    """One check that makes all of these, one after the other."""
    return lambda backend: (line for check in checks for line in check(backend))


def raised(error: Exception) -> str:
    """What an exception of an adapter says, and where it is from."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"raised {type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno}, in {frame.name})"


# --- what a framework has --------------------------------------------------------------------------------------------


def float_dtypes(backend: Backend) -> list[str]:
    """The float dtypes that the framework has. Only float32 is in all of them; JAX has float64 if it is told so."""
    return ["float32", *(dtype for dtype in ("float16", "bfloat16", "float64") if _has(backend, dtype))]


def half_dtypes(backend: Backend) -> list[Any]:
    """float16 as a dtype of NumPy, if the framework has it: one of half precision is enough to try a primitive."""
    return [np.dtype("float16")] if _has(backend, "float16") else []


def _has(backend: Backend, dtype: str) -> bool:
    try:
        return backend.dtype(placed(backend, np.zeros(1), dtype)) == dtype
    except Exception:  # each framework has an error of its own for a dtype that it has not
        return False


def placed(backend: Backend, x: Array, dtype: str) -> Array:
    """NumPy's numbers as an array of the framework in a float dtype, which need not be one of NumPy's."""
    if dtype == "bfloat16":
        return backend.astype(backend.asarray(x.astype("float32")), dtype)
    return backend.asarray(x.astype(dtype))


def representable(x: Array, dtype: str) -> Array:
    """The numbers rounded to a float dtype, in a dtype of NumPy that holds them."""
    if dtype != "bfloat16":
        return np.asarray(x).astype(dtype)
    finite = np.isfinite(x)
    return np.asarray(np.where(finite, rounded(np.where(finite, x, 0), dtype), x), np.float32)


def rounded(x: Array, dtype: str) -> Array:
    """Wide numbers rounded to the nearest of a dtype, ties to even, by arithmetic on their exponents."""
    precision = tolerances.PRECISION[dtype]
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log2(np.maximum(abs(x), precision.smallest_normal)))
        unit = np.exp2(exponent) * precision.epsilon
        return np.where(np.isfinite(x), np.rint(x / unit) * unit, x).astype("float64")


# --- comparisons -----------------------------------------------------------------------------------------------------


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


def form(backend: Backend, what: str, got: Any, shape: tuple[int, ...], dtype: str) -> Iterator[str]:
    if not backend.owns(got):
        yield f"{what} is a {type(got).__qualname__}, which the backend does not own"
    elif (backend.dtype(got), backend.shape(got)) != (dtype, shape):
        yield f"{what} is {backend.dtype(got)} of the shape {backend.shape(got)}, expected {dtype} of {shape}"


def values(
    backend: Backend,
    what: str,
    got: Any,
    expected: Array,
    bound: Array,
    dtype: str,
    scale: Array = 0.0,
    tokens: Sequence[str] = (),
) -> Iterator[str]:
    """The first value that leaves the table of tolerances, or zero that is not exact.

    ``dtype`` is that of the logits, and ``scale`` the size of what was added up, 0 where nothing can cancel. ``tokens``
    are words for each entry of the second axis.
    """
    if not backend.owns(got) or backend.shape(got) != expected.shape or backend.dtype(got) not in tolerances.PRECISION:
        return  # its form was reported
    result = np.asarray(backend.to_numpy(got))
    compute = compute_dtype(dtype)
    distance = tolerances.excess(result, expected, backend.dtype(got), bound, scale, compute)
    # Zero because nothing was added up, not because summands cancelled.
    bad = (distance > 1) | ((expected == 0) & (scale == 0) & (result != 0))
    for place in np.argwhere(bad)[:1]:
        at = tuple(int(i) for i in place)
        token = f", of the token {tokens[at[1]]}" if tokens else ""
        yield f"{what} is {result[at]} at {list(at)}, expected {float(expected[at])}{token}"


def watched(backend: Backend, function: Callable[..., Any], arguments: list[Any]) -> tuple[Any, list[str]]:
    """The result of a call, and which arguments it wrote into."""
    arrays = list(_arrays(backend, arguments))
    before = [np.array(backend.to_numpy(x)) for x in arrays]
    with backend.scope(None):
        result = function(*arguments)
    pairs = zip(arrays, before, strict=True)
    changed = [not np.array_equal(backend.to_numpy(x), old, equal_nan=True) for x, old in pairs]
    return result, ["writes into an argument"] if any(changed) else []


def _arrays(backend: Backend, argument: Any) -> Iterator[Array]:
    """The arrays in an argument, which may be a tuple of more."""
    if isinstance(argument, (list, tuple)):
        for part in argument:
            yield from _arrays(backend, part)
    elif backend.owns(argument):
        yield argument


def densified(gradient: Any, backend: Backend) -> Any:
    """A gradient of few rows as an array, in one of the forms that frameworks give it."""
    if backend.owns(gradient):
        return gradient if backend.dense_form(gradient) is None else gradient.to_dense()
    rows = [np.asarray(backend.to_numpy(x)) for x in (gradient.values, gradient.indices, gradient.dense_shape)]
    dense = np.zeros(rows[2], rows[0].dtype)
    np.add.at(dense, rows[1], rows[0])
    return backend.asarray(dense)
