"""NumPy: arrays, and calls without a compiler or a derivative."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from seqloss.testing.frameworks.capabilities import Capabilities

name = "numpy"
DTYPES = ("float32", "float64", "float16")
CAN = Capabilities(DTYPES, differentiates=False, traces=False)


def array(x: Any, dtype: str | None = None) -> Any:
    """A read-only array: a function that writes into its arguments fails."""
    result = np.array(x, dtype=dtype)
    result.flags.writeable = False
    return result


def to_numpy(x: Any) -> Any:
    return np.asarray(x)


def writable(x: Any) -> Any:
    return x.copy()


def dtype(x: Any) -> str:
    return str(x.dtype)


def is_array(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic))


def dense(x: Any) -> Any:
    return x


def transposed(x: Any) -> Any:
    return x.T


def device(x: Any) -> str:
    return "cpu"


def precision(dtype: str) -> AbstractContextManager[Any]:
    return nullcontext()


def _eager(function: Any, wrt: Any) -> Any:
    return lambda arrays, cotangent: (function(*arrays), None)


def _raising(function: Any, wrt: Any) -> Any:
    def run(arrays: Any, cotangent: Any) -> Any:
        with np.errstate(all="raise"):
            return function(*arrays), None

    return run


def weighted(tokens: Any, weights: Any) -> Any:
    """The losses of tokens times their weights, in the dtype of the losses."""
    return tokens * weights.astype(tokens.dtype)


def total(x: Any) -> Any:
    return x.sum()


def identity(x: Any) -> Any:
    """The matrix by which the last axis of an array is multiplied without a change."""
    return np.eye(x.shape[-1], dtype=x.dtype)


def over(summed: Any, weights: Any) -> Any:
    """A sum of losses divided by the sum of the weights, added up in its dtype; 0 where that is 0."""
    count = weights.sum(dtype=summed.dtype)
    return np.where(count == 0, np.zeros_like(summed), summed / np.where(count == 0, np.ones_like(count), count))


MODES = {"eager": _eager}
SETTINGS = {"raise": _raising}
FINITE = ()
COMPILERS: dict[str, Any] = {}
many_shapes = nullcontext
hessian_product = pullback = mapped = None


def _with_gaps(x: Any) -> Any:
    wide = np.zeros((*x.shape, 2), x.dtype)
    wide[..., 0] = x
    return wide[..., 0]


LAYOUTS = {
    "Fortran-ordered": np.asfortranarray,
    "backward": lambda x: np.flip(np.flip(x).copy()),
    "gappy": _with_gaps,
}
UNRECORDED: dict[str, Any] = {}
SURROUNDINGS: dict[str, Any] = {}
QUICK = None
EXPLICIT = {"explicit": lambda function: function}
COMPILED: tuple[str, ...] = ()
FEWER_DTYPES: dict[str, tuple[str, ...]] = {}
