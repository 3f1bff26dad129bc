"""The array functions, against NumPy's of the same meaning, and what only the framework can do."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from seqloss.core.protocol import Array, Backend
from seqloss.testing.conformance.comparing import (
    BOOLS,
    FINITE,
    FLOATS,
    INTS,
    Check,
    densified,
    different,
    float_dtypes,
    form,
    half_dtypes,
    values,
)


def _sizes(backend: Backend) -> Iterator[str]:
    sizes = backend.sizes(backend.asarray(FLOATS))
    if not isinstance(sizes, tuple) or [int(size) for size in sizes] != [2, 3]:
        yield f"is {sizes!r}, expected (2, 3)"


def _astype(backend: Backend) -> Iterator[str]:
    narrower = [(FLOATS, dtype.name) for dtype in half_dtypes(backend)]
    for x, dtype in ((INTS, "float32"), (BOOLS, "float32"), (FLOATS, "float32"), *narrower):
        got = backend.astype(backend.asarray(x), dtype)
        yield from different(backend, f"from {x.dtype.name} to {dtype}", got, x.astype(dtype))


def _arange(backend: Backend) -> Iterator[str]:
    got = backend.arange(5, like=backend.asarray(FLOATS))
    yield from different(backend, "up to 5", got, np.arange(5))
    if backend.owns(got) and not backend.dtype(got).startswith("int"):
        yield f"is {backend.dtype(got)}, expected a signed integer dtype"


def _ones_like(backend: Backend) -> Iterator[str]:
    for dtype in ("float32", "bool", *(dtype.name for dtype in half_dtypes(backend))):
        got = backend.ones_like(backend.asarray(INTS), dtype=dtype)
        yield from different(backend, f"with dtype={dtype}", got, np.ones(INTS.shape, dtype))


def _reshape(backend: Backend) -> Iterator[str]:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    array = backend.asarray(x)
    batch, time, classes = backend.sizes(array)
    yield from different(backend, "to two axes", backend.reshape(array, (batch * time, classes)), x.reshape(6, 4))
    flat = backend.reshape(array, [batch * time * classes])
    yield from different(backend, "to one axis", flat, x.reshape(24))
    yield from different(backend, "to three axes", backend.reshape(flat, (batch, time, classes)), x)


def _expand_dims(backend: Backend) -> Iterator[str]:
    for axis in (0, 1, -1):
        got = backend.expand_dims(backend.asarray(FLOATS), axis=axis)
        yield from different(backend, f"at axis {axis}", got, np.expand_dims(FLOATS, axis))


def _where(backend: Backend) -> Iterator[str]:
    condition, x, y = (backend.asarray(a) for a in (BOOLS, FLOATS, FINITE))
    ints, scalar, nan = backend.asarray(INTS), backend.asarray(np.asarray(False)), float("nan")
    f32 = np.float32
    for what, got, expected in (
        ("of two arrays", backend.where(condition, x, y), np.where(BOOLS, FLOATS, FINITE)),
        ("with a number last", backend.where(condition, x, 0.0), np.where(BOOLS, FLOATS, f32(0))),
        ("with a number first", backend.where(condition, 0.5, y), np.where(BOOLS, f32(0.5), FINITE)),
        ("with NaN last", backend.where(condition, y, nan), np.where(BOOLS, FINITE, f32(nan))),
        ("of integers and a number", backend.where(condition, ints, 0), np.where(BOOLS, INTS, 0)),
        ("with a condition of rank 0", backend.where(scalar, x, nan), np.full_like(FLOATS, nan)),
    ):
        yield from different(backend, what, got, expected)
    for dtype in half_dtypes(backend):
        got = backend.where(condition, backend.asarray(FINITE.astype(dtype)), 0.0)
        yield from different(backend, f"of {dtype.name} and a number", got, np.where(BOOLS, FINITE, 0).astype(dtype))


def _nan_unless(backend: Backend) -> Iterator[str]:
    nan = float("nan")
    for x in (FINITE, FLOATS, *(FINITE.astype(dtype) for dtype in half_dtypes(backend))):
        got = backend.nan_unless(backend.asarray(BOOLS), backend.asarray(x))
        yield from different(backend, f"of {x.dtype.name}", got, np.where(BOOLS, x, x.dtype.type(nan)))
    for condition in (False, True):
        got = backend.nan_unless(backend.asarray(np.asarray(condition)), backend.asarray(FINITE))
        yield from different(backend, f"where {condition}", got, FINITE if condition else np.full_like(FINITE, nan))


def _equal(backend: Backend) -> Iterator[str]:
    x, y = np.array([[0.0, -0.0, 1.0, np.nan]], np.float32), np.array([[0.0], [1.0]], np.float32)
    arrays = backend.asarray(x), backend.asarray(y)
    yield from different(backend, "of floats", backend.equal(*arrays), x == y)
    yield from different(backend, "of floats and themselves", backend.equal(arrays[0], arrays[0]), x == x)
    yield from different(backend, "of floats and a number", backend.equal(arrays[0], 0.0), x == 0)
    yield from different(backend, "of integers", backend.equal(backend.asarray(INTS), 7), INTS == 7)


def _isfinite(backend: Backend) -> Iterator[str]:
    yield from different(backend, "of floats", backend.isfinite(backend.asarray(FLOATS)), np.isfinite(FLOATS))


def _sum(backend: Backend) -> Iterator[str]:
    for axis in ((0,), (1,), (0, 1)):
        got = backend.sum(backend.asarray(FINITE), axis=axis)
        yield from different(backend, f"over {axis}", got, FINITE.sum(axis))
    got = backend.sum(backend.asarray(FINITE[:0]), axis=(0,))
    yield from different(backend, "of nothing", got, np.zeros(3, np.float32))
    if "float64" in float_dtypes(backend):
        x = np.array([[1, 2.0**-30, 2.0**-31]], "float32")
        got = backend.sum(backend.asarray(x), axis=(-1,), dtype="float64")
        yield from different(backend, "in float64", got, x.sum(-1, dtype="float64"))


def _min(backend: Backend) -> Iterator[str]:
    for axis in ((0,), (-1,), (0, 1)):
        for what, x in (("of numbers", FINITE), ("of NaN and infinities", FLOATS)):
            got = backend.min(backend.asarray(x), axis=axis)
            yield from different(backend, f"{what} over {axis}", got, np.min(x, axis))


def _count_nonzero(backend: Backend) -> Iterator[str]:
    for axis in ((0,), (1,), (0, 1)):
        got = backend.count_nonzero(backend.asarray(BOOLS), axis=axis)
        yield from different(backend, f"over {axis}", got, np.asarray(np.count_nonzero(BOOLS, axis)))
    many = np.ones((300, 300), bool)
    got = backend.count_nonzero(backend.asarray(many), axis=(0, 1))
    yield from different(backend, "of 90000", got, np.asarray(90000))


def _all(backend: Backend) -> Iterator[str]:
    for x in (BOOLS, BOOLS | True, BOOLS[:0]):
        for axis in (0, -1):
            got = backend.all(backend.asarray(x), axis=axis)
            yield from different(backend, f"of {x.tolist()} over axis {axis}", got, np.all(x, axis))


def _surely_all(backend: Backend) -> Iterator[str]:
    for x in (BOOLS, BOOLS | True, np.asarray(False), np.asarray(True), BOOLS[:0]):
        got = backend.surely_all(backend.asarray(x))
        # To know that something is False takes no courage, and to know nothing is allowed.
        if not isinstance(got, (bool, np.bool_)) or (got and not x.all()):
            yield f"of {x.tolist()} is {got!r}, expected {'False' if not x.all() else 'a bool'}"


def _stop_gradient(backend: Backend) -> Iterator[str]:
    array = backend.asarray(FINITE)
    yield from different(backend, "of floats", backend.stop_gradient(array), FINITE)
    differentiated = backend.vjp(lambda x: x * backend.stop_gradient(x), array)
    if differentiated is not None:
        gradient = differentiated[1](backend.asarray(np.ones_like(FINITE)))
        yield from different(backend, "times the array, differentiated,", gradient, FINITE)


def _permute_dims(backend: Backend) -> Iterator[str]:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for axes in ((2, 0, 1), [0, 2, 1], (1, 0, 2)):
        got = backend.permute_dims(backend.asarray(x), axes)
        yield from different(backend, f"to {list(axes)}", got, np.transpose(x, axes))


def _concat(backend: Backend) -> Iterator[str]:
    for axis in (0, 1, -1):
        for x in (FINITE, INTS):
            arrays = [backend.asarray(part) for part in (x, np.zeros_like(x), x)]
            got = backend.concat(arrays, axis=axis)
            yield from different(backend, f"along axis {axis}", got, np.concatenate([x, np.zeros_like(x), x], axis))
    got = backend.concat((backend.asarray(FINITE), backend.asarray(FINITE[:, :1])), axis=1)
    yield from different(backend, "of different sizes", got, np.concatenate([FINITE, FINITE[:, :1]], 1))


def _log(backend: Backend) -> Iterator[str]:
    x = np.array([1, 0, np.inf, np.nan, -1], np.float32)
    numbers = np.array([0.25, 1e-30, 3.0, 1e30, 1.0000001], np.float32)
    with backend.scope(None):
        expected = np.array([0, -np.inf, np.inf, np.nan, np.nan], np.float32)
        yield from different(backend, "of the ends", backend.log(backend.asarray(x)), expected)
        got = backend.log(backend.asarray(numbers))
        yield from form(backend, "of numbers", got, numbers.shape, "float32")
        exact = np.log(numbers.astype(np.longdouble))
        yield from values(backend, "of numbers", got, exact, np.asarray(4.0), "float32")


def _exp(backend: Backend) -> Iterator[str]:
    x = np.array([0, -np.inf, np.inf, np.nan, 100], np.float32)
    numbers = np.array([0.25, -30, 3.0, 80, 1e-5], np.float32)
    with backend.scope(None):
        expected = np.array([1, 0, np.inf, np.nan, np.inf], np.float32)
        yield from different(backend, "of the ends", backend.exp(backend.asarray(x)), expected)
        got = backend.exp(backend.asarray(numbers))
        yield from form(backend, "of numbers", got, numbers.shape, "float32")
        exact = np.exp(numbers.astype(np.longdouble))
        yield from values(backend, "of numbers", got, exact, np.asarray(4.0), "float32")


def _take(backend: Backend) -> Iterator[str]:
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3) + 0.5
    for x in (matrix, matrix[:, 0], *(matrix.astype(dtype) for dtype in half_dtypes(backend))):
        for indices in (
            np.array([2, 0, 2]),
            np.array([3], np.int32),
            np.zeros(0, np.int64),
            np.array([[1, 0], [3, 1]]),
        ):
            got = backend.take(backend.asarray(x), backend.asarray(indices))
            yield from different(backend, f"of {list(x.shape)} at {indices.tolist()}", got, x[indices])
        indices = np.array([2, 0, 2])
        cotangent = np.ones((3, *x.shape[1:]), x.dtype) * np.array([1, 2, 4], x.dtype).reshape(3, *[1] * (x.ndim - 1))
        expected = np.zeros_like(x)
        np.add.at(expected, indices, cotangent)

        def rows(x: Array, at: Array = indices) -> Array:
            return backend.take(x, backend.asarray(at))

        differentiated = backend.vjp(rows, backend.asarray(x))
        if differentiated is not None:
            got = densified(differentiated[1](backend.asarray(cotangent)), backend)
            yield from different(backend, f"of {list(x.shape)}: the gradient", got, expected)


def _broadcast_like(backend: Backend) -> Iterator[str]:
    like = backend.asarray(FLOATS)
    for x in (np.float32(2.5).reshape(()), FINITE[:, :1], FINITE[:1], FINITE[:1, :1], FINITE, BOOLS[:, :1]):
        what = f"of {x.dtype.name}{list(x.shape)}"
        agree, got = backend.broadcast_like(backend.asarray(x), like, "the sizes differ")
        if agree is not None:
            yield from different(backend, f"{what}: whether it fits", agree, np.asarray(True))
        yield from different(backend, what, got, np.array(np.broadcast_to(x, FLOATS.shape)))
    _, got = backend.broadcast_like(like, backend.asarray(np.zeros((2, 3), np.int32)), "the sizes differ")
    yield from different(backend, "beside another dtype", got, FLOATS)
    for x in (np.float32(2.5).reshape(()), FINITE[:, :1]):
        differentiated = backend.vjp(lambda x: backend.broadcast_like(x, like, "")[1], backend.asarray(x))
        if differentiated is not None:
            got = differentiated[1](backend.asarray(FINITE))
            expected = FINITE.sum(None if x.ndim == 0 else 1, keepdims=x.ndim > 0)
            yield from different(backend, f"of {list(x.shape)}: the gradient", got, np.asarray(expected))


def _scope(backend: Backend) -> Iterator[str]:
    array = backend.asarray(np.array([np.inf, 0, 1], np.float32))
    for name in ("loss", None):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with backend.scope(name):
                got = array - array / array
        yield from different(backend, f"{name!r} around arithmetic", got, np.array([np.nan, np.nan, 0], np.float32))


def _with_rank(backend: Backend) -> Iterator[str]:
    yield from different(backend, "of known rank", backend.with_rank(backend.asarray(FLOATS), 2), FLOATS)


def _sizes_agree(backend: Backend) -> Iterator[str]:
    arrays = [backend.asarray(x) for x in (np.zeros((2, 3, 4), np.float32), INTS, BOOLS)]
    agree, returned = backend.sizes_agree(arrays, "the sizes differ")
    yield from different(backend, "of equal sizes", agree, np.asarray(True))
    if not isinstance(returned, list) or len(returned) != len(arrays):
        yield f"returns {returned!r} for the arrays, expected a list of {len(arrays)}"
        return
    for got, given in zip(returned, arrays, strict=True):
        yield from different(backend, "returns an array that", got, np.asarray(backend.to_numpy(given)))


def _vjp(backend: Backend) -> Iterator[str]:
    array, cotangent = (backend.asarray(x) for x in (FINITE, INTS.astype(np.float32)))

    def square(x: Array) -> Any:
        return x * x

    differentiated = backend.vjp(square, array)
    if differentiated is not None:
        value, pull = differentiated
        yield from different(backend, "of x * x: the value", value, FINITE * FINITE)
        yield from different(backend, "of x * x: the cotangent", pull(cotangent), 2 * FINITE * INTS.astype(np.float32))


CHECKS: dict[str, Check] = {
    "sizes": _sizes,
    "astype": _astype,
    "arange": _arange,
    "ones_like": _ones_like,
    "reshape": _reshape,
    "expand_dims": _expand_dims,
    "where": _where,
    "nan_unless": _nan_unless,
    "equal": _equal,
    "isfinite": _isfinite,
    "sum": _sum,
    "min": _min,
    "count_nonzero": _count_nonzero,
    "all": _all,
    "surely_all": _surely_all,
    "stop_gradient": _stop_gradient,
    "permute_dims": _permute_dims,
    "concat": _concat,
    "log": _log,
    "exp": _exp,
    "take": _take,
    "broadcast_like": _broadcast_like,
    "scope": _scope,
    "with_rank": _with_rank,
    "sizes_agree": _sizes_agree,
    "vjp": _vjp,
}
