"""The kernel pair against the oracle, and the lines of the kernel contract that can be seen from outside."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from seqloss.core.dtypes import compute_dtype
from seqloss.core.protocol import SMALLEST_ACTIVE, Array, Backend
from seqloss.testing import oracle, tolerances
from seqloss.testing.conformance.comparing import different, float_dtypes, form, values, watched

NAN, INF = float("nan"), float("inf")


class Tokens(NamedTuple):
    """The arguments of the kernels: logits [2, 8, 6], the others [2, 8]. The two rows hold the same tokens.

    Each token is a trap: the first row has cotangents that are not 0, the second zeros, where nothing may be seen.
    """

    logits: Array
    targets: Array
    cotangent: Array


def tokens(dtype: str) -> Tokens:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (1, 8, 6)).round(2)
    targets = rng.integers(0, 6, (1, 8))
    logits[0, 1, targets[0, 1]] = 25  # lse - t and p - 1 are 0 in float32
    logits[0, 2, (targets[0, 2] + 1) % 6] = 25  # and here the target is the one that hardly has a probability
    logits[0, 3, (targets[0, 3] + 1) % 6] = -INF
    logits[0, 4] = NAN
    logits[0, 5, 0] = INF
    targets[0, 6], targets[0, 7] = -1, 6
    cotangent = np.linspace(0.5, 2, 8) * np.array([[1], [0]])
    logits, targets = np.repeat(logits, 2, 0), np.repeat(targets, 2, 0)
    return Tokens(logits.astype(dtype), targets, cotangent.astype(compute_dtype(dtype)))


def _token_nll(backend: Backend) -> Iterator[str]:
    for dtype in float_dtypes(backend):
        z, y, _ = tokens(dtype)
        for active in (None, _mask(y)):
            what = f"of {dtype} logits{'' if active is None else ' with active'}:"
            arrays = [backend.asarray(z), backend.asarray(y), None if active is None else backend.asarray(active)]
            statistics, written = watched(backend, backend.token_nll, [*arrays, compute_dtype(dtype)])
            yield from (f"{what} {text}" for text in written)
            for name, got in zip(("nll", "shift", "total"), statistics, strict=True):
                yield from form(backend, f"{what} {name}", got, y.shape, compute_dtype(dtype))
            expected = oracle.tokens(z, y).nll
            expected = expected if active is None else np.where(active, expected, 0)
            yield from _values(backend, f"{what} nll", statistics[0], expected, z, dtype)
    yield from _narrow_labels(backend)


def _token_nll_pullback(backend: Backend) -> Iterator[str]:
    for dtype in float_dtypes(backend):
        z, y, g = tokens(dtype)
        for active in (None, _mask(y)):
            what = f"of {dtype} logits{'' if active is None else ' with active'}:"
            mask = None if active is None else backend.asarray(active)
            arrays = [backend.asarray(z), backend.asarray(y), mask]
            with backend.scope(None):
                statistics = backend.token_nll(arrays[0], arrays[1], mask, compute_dtype(dtype))
            got, written = watched(backend, backend.token_nll_pullback, [backend.asarray(g), *arrays, statistics])
            yield from (f"{what} {text}" for text in written)
            used = g if active is None else np.where(active, g, 0)
            yield from _gradient(backend, what, got, z, y, used, dtype)


def _exact_token_nll(backend: Backend) -> Iterator[str]:
    for dtype in set(float_dtypes(backend)) - {"float64"}:
        z, y, _ = tokens(dtype)
        what = f"of {dtype} logits in float64:"
        with backend.float64(), backend.scope(None):
            nll = backend.token_nll(backend.asarray(z), backend.asarray(y), None, "float64").nll
            yield from form(backend, f"{what} nll", nll, y.shape, "float64")
            yield from _values(backend, f"{what} nll", nll, oracle.tokens(z, y).nll, z.astype("float64"), "float64")


def _exact_token_nll_pullback(backend: Backend) -> Iterator[str]:
    """Rounded once, with zeros in place of subnormal float32 numbers."""
    for dtype in set(float_dtypes(backend)) - {"float64"}:
        z, y, g = tokens(dtype)
        z[0, 0, 0] -= 87.5  # the gradient there is subnormal in float32 and in bfloat16
        arrays = backend.asarray(z), backend.asarray(y), None
        with backend.float64(), backend.scope(None):
            statistics = backend.token_nll(*arrays, "float64")
            cotangent = backend.astype(backend.asarray(g), "float64")
            gradient = backend.token_nll_pullback(cotangent, *arrays, statistics)
        what = f"of {dtype} logits in float64: the gradient"
        yield from form(backend, what, gradient, z.shape, dtype)
        rows = np.where(g[..., None] == 0, 0, g[..., None] * oracle.tokens(z, y).slope)
        rows = np.where(abs(rows) < SMALLEST_ACTIVE, 0, rows)
        got = np.asarray(backend.to_numpy(gradient)).astype("float64")
        if got.shape == rows.shape and not np.array_equal(got, _rounded(rows, dtype), equal_nan=True):
            yield f"{what} is not the true value rounded once"


def _rounded(x: Array, dtype: str) -> Array:
    """Wide numbers rounded to the nearest of a dtype, ties to even, by arithmetic on their exponents."""
    precision = tolerances.PRECISION[dtype]
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log2(np.maximum(abs(x), precision.smallest_normal)))
        unit = np.exp2(exponent) * precision.epsilon
        return np.where(np.isnan(x), np.nan, np.rint(x / unit) * unit).astype("float64")


def _differentiable_token_nll(backend: Backend) -> Iterator[str]:
    for dtype in float_dtypes(backend):
        z, y, g = tokens(dtype)
        for active in (None, _mask(y)):
            what = f"of {dtype} logits{'' if active is None else ' with active'}:"
            targets, mask = backend.asarray(y), None if active is None else backend.asarray(active)

            def operation(logits: Array, targets: Array = targets, mask: Array | None = mask) -> Array:
                return backend.differentiable_token_nll(logits, targets, mask)

            with backend.scope(None):
                value = operation(backend.asarray(z))
                expected = oracle.tokens(z, y).nll
                expected = expected if active is None else np.where(active, expected, 0)
                yield from form(backend, f"{what} nll", value, y.shape, compute_dtype(dtype))
                yield from _values(backend, f"{what} nll", value, expected, z, dtype)
                differentiated = backend.vjp(operation, backend.asarray(z))
                if differentiated is None:
                    continue
                used = g if active is None else np.where(active, g, 0)
                yield from _gradient(backend, what, differentiated[1](backend.asarray(g)), z, y, used, dtype)


def _mask(targets: Array) -> Array:
    """Every other token, the first row's shifted by one: each kind of token is on both sides."""
    return (np.arange(targets.size).reshape(targets.shape) + np.array([[0], [1]])) % 2 == 0


def _narrow_labels(backend: Backend) -> Iterator[str]:
    """Labels in a dtype that does not hold the number of classes."""
    z = np.zeros((3, 200), np.float32)
    for labels in (np.array([0, 127, -1], np.int8), np.array([0, 199, 255], np.uint8)):
        with backend.scope(None):
            nll = backend.token_nll(backend.asarray(z), backend.asarray(labels), None, "float32").nll
        yield from _values(backend, f"of {labels.dtype.name} labels:", nll, oracle.tokens(z, labels).nll, z, "float32")


def _indices(backend: Backend) -> Iterator[str]:
    """Labels of every width: one of 8 bits cannot be compared with 200 in its own dtype."""
    z = backend.asarray(np.zeros((3, 200), np.float32))
    for dtype, labels in (
        ("int8", [0, 127, -1]),
        ("uint8", [0, 199, 255]),
        ("int32", [199, 200, -100]),
        ("int64", [5, -1, 2**31 + 5]),
    ):
        y = np.array(labels, dtype)
        legal = (y >= 0) & (y < 200)
        # JAX has no 64 bits unless it is told to, and so no label that is so large.
        array = backend.asarray(y)
        if backend.dtype(array) != dtype:
            y = y.astype(backend.dtype(array))
            legal = (y >= 0) & (y < 200)
        index, found = backend.indices(z, array)
        yield from different(backend, f"of {dtype} labels: whether they are classes", found, legal)
        yield from different(backend, f"of {dtype} labels", index, np.where(legal, y, 0).astype(np.int64))
        if backend.owns(index) and not backend.dtype(index).startswith("int"):
            yield f"is {backend.dtype(index)}, expected a signed integer dtype"


def _gradient(backend: Backend, what: str, got: Any, z: Array, y: Array, g: Array, dtype: str) -> Iterator[str]:
    yield from form(backend, f"{what} the gradient", got, z.shape, dtype)
    # Where the cotangent is 0 so is the row, whatever it holds.
    rows = np.where(g[..., None] == 0, 0, g[..., None] * oracle.tokens(z, y).slope)
    yield from _values(backend, f"{what} the gradient", got, rows, z, dtype)


def _values(backend: Backend, what: str, got: Any, expected: Array, z: Array, dtype: str) -> Iterator[str]:
    bound = tolerances.token_bound(z).reshape(z.shape[:-1] + (1,) * (expected.ndim - z.ndim + 1))
    yield from values(backend, what, got, expected, bound, dtype)


def _both(*checks: Callable[[Backend], Iterator[str]]) -> Callable[[Backend], Iterator[str]]:
    return lambda backend: (line for check in checks for line in check(backend))


CHECKS: dict[str, Callable[[Backend], Iterator[str]]] = {
    "token_nll": _both(_token_nll, _exact_token_nll),
    "token_nll_pullback": _both(_token_nll_pullback, _exact_token_nll_pullback),
    "indices": _indices,
    "differentiable_token_nll": _differentiable_token_nll,
}
