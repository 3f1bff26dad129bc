"""Array API: facts and primitives. ``xp`` is the namespace of an array: the module that has its functions."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from seqloss.core.errors import NO_ARRAY_API, BackendError
from seqloss.core.protocol import Array, Location
from seqloss.core.shapes import Shape

_OTHERS = ("numpy", "torch", "tensorflow", "jax", "jaxlib")
"""Frameworks with a backend of their own, whose arrays may follow the standard too."""

_NAMES = (
    *("float32", "float64", "bool", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16"),  # not in the standard, but in some frameworks
)

_HOST = (1, 3)
"""The devices of DLPack whose memory the host reads: kDLCPU and kDLCUDAHost."""


def owns(x: Any) -> bool:
    return hasattr(type(x), "__array_namespace__") and type(x).__module__.partition(".")[0] not in _OTHERS


def namespace(x: Array) -> Any:
    return x.__array_namespace__()


def shape(x: Array) -> Shape:
    return tuple(x.shape)


def dtype(x: Array) -> str:
    xp, own = namespace(x), x.dtype
    for name in _NAMES:
        if getattr(xp, name, None) == own:
            return name
    return str(own).rpartition(".")[2]


def device(x: Array) -> Any:
    return x.device


def location(x: Array) -> Location:
    if not hasattr(x, "__dlpack_device__"):
        return "traced"  # a lazy array has no memory
    return "host" if x.__dlpack_device__()[0] in _HOST else "device"


def asarray(x: Any, *, like: Array | None = None) -> Array:
    if owns(x):
        return x
    if like is None:
        return _imported().asarray(np.asarray(x))
    return namespace(like).asarray(np.asarray(x), device=like.device)


def to_numpy(x: Array) -> Any:
    # NumPy 2.1 is the first version that can read the memory of other devices.
    return np.from_dlpack(x) if location(x) == "host" else np.from_dlpack(x, device="cpu")


def astype(x: Array, dtype: str) -> Array:
    return namespace(x).astype(x, getattr(namespace(x), dtype), copy=False)


def arange(stop: int, *, like: Array) -> Array:
    return namespace(like).arange(stop, device=like.device)


def ones_like(x: Array, *, dtype: str) -> Array:
    return namespace(x).ones_like(x, dtype=getattr(namespace(x), dtype))


def reshape(x: Array, shape: Sequence[Any]) -> Array:
    return namespace(x).reshape(x, tuple(shape))


def expand_dims(x: Array, *, axis: int) -> Array:
    return namespace(x).expand_dims(x, axis=axis)


def where(condition: Array, x1: Array | float, x2: Array | float) -> Array:
    like: Any = x1 if hasattr(x1, "dtype") else x2
    return namespace(like).where(condition, *(as_number(x, like) for x in (x1, x2)))


def as_number(x: Array | float, like: Array) -> Array:
    """A Python number as an array of rank 0 in the dtype of another one; the functions of 2023.12 take no numbers."""
    return x if hasattr(x, "dtype") else namespace(like).asarray(x, dtype=like.dtype, device=like.device)


def equal(x1: Array, x2: Array | float) -> Array:
    return namespace(x1).equal(x1, as_number(x2, x1))


def isfinite(x: Array) -> Array:
    return namespace(x).isfinite(x)


def sum(x: Array, *, axis: tuple[int, ...], dtype: str | None = None) -> Array:
    xp = namespace(x)
    return xp.sum(x, axis=axis, dtype=x.dtype if dtype is None else getattr(xp, dtype))


def min(x: Array, *, axis: tuple[int, ...]) -> Array:
    return namespace(x).min(x, axis=axis)


def count_nonzero(x: Array, *, axis: tuple[int, ...]) -> Array:
    return namespace(x).sum(astype(astype(x, "bool"), "int64"), axis=axis)


def all(x: Array, *, axis: int) -> Array:
    return namespace(x).all(x, axis=axis)


def surely_all(x: Array) -> bool:
    return location(x) == "host" and bool(namespace(x).all(x))


def permute_dims(x: Array, axes: Sequence[int]) -> Array:
    return namespace(x).permute_dims(x, tuple(axes))


def concat(arrays: Sequence[Array], *, axis: int) -> Array:
    return namespace(arrays[0]).concat(list(arrays), axis=axis)


def log(x: Array) -> Array:
    return namespace(x).log(x)


def exp(x: Array) -> Array:
    return namespace(x).exp(x)


def take(x: Array, indices: Array) -> Array:
    xp = namespace(x)
    rows = xp.take(x, xp.reshape(indices, (-1,)), axis=0)  # the standard has indices of one axis
    return xp.reshape(rows, (*indices.shape, *x.shape[1:]))


def scope(name: str | None) -> AbstractContextManager[Any]:
    return np.errstate(all="ignore")  # array_api_strict and others compute with NumPy


def _imported() -> Any:
    """The namespace for a host value without an array: that of the first such framework in this process."""
    named = ((name, getattr(module, "__dict__", {})) for name, module in list(sys.modules.items()) if "." not in name)
    found = next((n for n, has in named if "__array_namespace_info__" in has and n not in _OTHERS), None)
    if found is None:
        raise BackendError(NO_ARRAY_API)
    return sys.modules[found]
