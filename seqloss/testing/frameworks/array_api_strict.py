"""array_api_strict: arrays that can do what the Array API standard says, and nothing else.

The generic backend is written for the version below; later ones have functions that it must not use.
"""

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import array_api_strict as xp
import numpy as np

from seqloss.testing.frameworks.capabilities import Capabilities

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that some later feature is missing in it
    xp.set_array_api_strict_flags(api_version="2023.12")

name = "array_api_strict"
BACKEND = "seqloss.backends.array_api"
"""The module to register for it."""
DTYPES = ("float32", "float64")
CAN = Capabilities(DTYPES, differentiates=False, traces=False)


def array(x: Any, dtype: str | None = None) -> Any:
    return xp.asarray(np.array(x, dtype=dtype))


def to_numpy(x: Any) -> Any:
    return np.from_dlpack(x)


def dtype(x: Any) -> str:
    return str(x.dtype).rpartition(".")[2]


def is_array(x: Any) -> bool:
    return isinstance(x, type(xp.asarray(0)))


def dense(x: Any) -> Any:
    return x


def transposed(x: Any) -> Any:
    return x.T


def device(x: Any) -> str:
    return str(x.device)


def precision(dtype: str) -> AbstractContextManager[Any]:
    return nullcontext()


def _eager(function: Any, wrt: Any) -> Any:
    return lambda arrays, cotangent: (function(*arrays), None)


def weighted(tokens: Any, weights: Any) -> Any:
    """The losses of tokens times their weights, in the dtype of the losses."""
    return tokens * xp.astype(weights, tokens.dtype)


def total(x: Any) -> Any:
    return xp.sum(x, dtype=x.dtype)


def over(summed: Any, weights: Any) -> Any:
    """A sum of losses divided by the sum of the weights, added up in its dtype; 0 where that is 0."""
    count = total(xp.astype(weights, summed.dtype))
    return xp.where(count == 0, xp.zeros_like(summed), summed / xp.where(count == 0, xp.ones_like(count), count))


MODES = {"eager": _eager}
SETTINGS: dict[str, Any] = {}
FINITE = ()
COMPILERS: dict[str, Any] = {}
many_shapes = nullcontext
writable = hessian_product = pullback = mapped = None
LAYOUTS: dict[str, Any] = {}
UNRECORDED: dict[str, Any] = {}
SURROUNDINGS: dict[str, Any] = {}
QUICK = None
EXPLICIT = {"explicit": lambda function: function}
COMPILED: tuple[str, ...] = ()
FEWER_DTYPES: dict[str, tuple[str, ...]] = {}
