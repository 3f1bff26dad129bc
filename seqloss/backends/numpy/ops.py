"""NumPy: facts and primitives."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from seqloss.core.protocol import Array, Location
from seqloss.core.shapes import Shape

# One table instead of dtype.name on every call: NumPy 2.4 makes that name anew each time, in Python.
_NAMES = {
    np.dtype(name): name
    for name in (
        *("float16", "float32", "float64", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
}


def owns(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic))


def dense_form(x: Array) -> str | None:
    if type(x) is np.ndarray:
        return None
    if isinstance(x, np.ma.MaskedArray):
        return "{0}.filled(0)"
    return "np.asarray({0})" if isinstance(x, np.matrix) else None


def packed_form(x: Array) -> None:
    return None


def shape(x: Array) -> Shape:
    return x.shape


def dtype(x: Array) -> str:
    return _NAMES.get(x.dtype) or x.dtype.name


def device(x: Array) -> None:
    return None


def location(x: Array) -> Location:
    return "host"


def needs_grad(x: Array) -> bool:
    return False


def is_stopped(x: Array) -> bool:
    return True


def asarray(x: Any, *, like: Array | None = None) -> Array:
    if type(x) is not np.ndarray:
        x = np.asarray(x)
    # In the byte order of the machine: a dtype of the other one is equal to none.
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def to_numpy(x: Array) -> Array:
    return x


def sizes(x: Array) -> tuple[Any, ...]:
    return tuple(x.shape)


def astype(x: Array, dtype: str) -> Array:
    return x.astype(dtype, copy=False)


def arange(stop: int, *, like: Array) -> Array:
    return np.arange(stop)


def ones_like(x: Array, *, dtype: str) -> Array:
    return np.ones(x.shape, dtype)


def reshape(x: Array, shape: Sequence[Any]) -> Array:
    return np.reshape(x, shape)


def expand_dims(x: Array, *, axis: int) -> Array:
    return np.expand_dims(x, axis)


def where(condition: Array, x1: Array | float, x2: Array | float) -> Array:
    # NumPy 1 gives a Python number beside a scalar array a dtype of its own. (A float64 scalar is a Python float too.)
    if not hasattr(x1, "dtype"):
        x1 = x2.dtype.type(x1)  # type: ignore[union-attr]  # one of the two is an array
    elif not hasattr(x2, "dtype"):
        x2 = x1.dtype.type(x2)
    if type(condition) is np.bool_ and type(x1) is type(x2) and isinstance(x1, np.generic):
        return x1 if condition else x2
    # [()] turns a rank-0 array into a NumPy scalar, as NumPy's own reductions return it, and is a view otherwise.
    return np.where(condition, x1, x2)[()]


def nan_unless(condition: Array, x: Array) -> Array:
    return where(condition, x, np.nan)


def equal(x1: Array, x2: Array | float) -> Array:
    equal: Array = x1 == x2  # np.equal takes three times as long for scalars (NumPy 2.4)
    return equal


def isfinite(x: Array) -> Array:
    return np.isfinite(x)


def sum(x: Array, *, axis: tuple[int, ...], dtype: str | None = None) -> Array:
    return np.add.reduce(x, axis=axis, dtype=dtype)


def min(x: Array, *, axis: tuple[int, ...]) -> Array:
    return np.minimum.reduce(x, axis=axis)


def count_nonzero(x: Array, *, axis: tuple[int, ...]) -> Array:
    return np.asarray(np.count_nonzero(x, axis=axis))


def all(x: Array, *, axis: int) -> Array:
    return np.all(x, axis=axis)


def surely_all(x: Array) -> bool:
    return bool(np.count_nonzero(x) == x.size)


def stop_gradient(x: Array) -> Array:
    return x


def permute_dims(x: Array, axes: Sequence[int]) -> Array:
    return np.transpose(x, axes)


def concat(arrays: Sequence[Array], *, axis: int) -> Array:
    return np.concatenate(arrays, axis=axis)


def log(x: Array) -> Array:
    return np.log(x)


def exp(x: Array) -> Array:
    return np.exp(x)


def take(x: Array, indices: Array) -> Array:
    return x[indices]


def scope(name: str | None) -> AbstractContextManager[Any]:
    return np.errstate(all="ignore")


def with_rank(x: Array, rank: int) -> Array:
    return x


def sizes_agree(arrays: Sequence[Array], message: str) -> tuple[Array, list[Array]]:
    return np.bool_(True), list(arrays)


def broadcast_like(x: Array, like: Array, message: str) -> tuple[Array | None, Array]:
    return None, np.broadcast_to(x, like.shape)


def vjp(function: Callable[[Array], Array], x: Array) -> None:
    return None
