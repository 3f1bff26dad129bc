"""NumPy: arrays, and calls without a compiler or a derivative."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

name = "numpy"
DTYPES = ("float32", "float64", "float16")


def array(x: Any, dtype: str | None = None) -> Any:
    """A read-only array: a function that writes into its arguments fails."""
    result = np.array(x, dtype=dtype)
    result.flags.writeable = False
    return result


def to_numpy(x: Any) -> Any:
    return np.asarray(x)


def dtype(x: Any) -> str:
    return str(x.dtype)


def is_array(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic))


def dense(x: Any) -> Any:
    return x


def device(x: Any) -> str:
    return "cpu"


def precision(dtype: str) -> AbstractContextManager[Any]:
    return nullcontext()


def _eager(function: Any, arrays: Any, wrt: Any, cotangent: Any) -> tuple[Any, None]:
    return function(*arrays), None


MODES = {"eager": _eager}
EXPLICIT = {"explicit": lambda function, arrays: function(*arrays)}
FEWER_DTYPES: dict[str, tuple[str, ...]] = {}
