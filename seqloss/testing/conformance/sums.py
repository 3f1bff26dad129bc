"""Wide sums and their quotients against fractions: sums that cancel, denominators of 0, and what is infinite."""

import warnings
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from seqloss.core.protocol import Array, Backend
from seqloss.testing import tolerances
from seqloss.testing.conformance.comparing import Check, different, float_dtypes, form, several

F32 = np.float32
NAN, INF = float("nan"), float("inf")
DIGITS = {"float32": 24, "float64": 53}


class Sums(NamedTuple):
    """Numbers with weights, and what they are to be divided by."""

    x: Array
    weights: Array | None
    denominator: Any
    """None for the sum of the weights; else a number or an array."""


def _looks(dtype: str) -> tuple[dict[str, Sums], dict[str, Sums]]:
    """Sums alone, and divided; what each is for stands beside it. They are over both axes, and over one of two."""
    rng = np.random.default_rng(0)
    x, w = (rng.uniform(1, 2, (20, 11)).astype(dtype) for _ in range(2))
    # So near to its opposite that a sum with the digits of the dtype keeps few of the difference.
    sign, near = np.where(np.arange(20) < 10, 1, -1)[:, None], 2.0 ** -(DIGITS[dtype] // 2)
    halves = np.concatenate([x[:10], x[:10] * (1 + near)]).astype(dtype)
    cancelling = (sign * halves).astype(dtype)
    huge = (x * 2.0 ** (100 if dtype == "float32" else 900)).astype(dtype)
    zeros_and_ones, large = (w > 1.5).astype(dtype), np.where(x > 1.9, huge, x).astype(dtype)
    # The sum itself, and quotients.
    return {
        "products": Sums(x, w, 1),
        "products that cancel": Sums(cancelling, np.concatenate([w[:10], w[:10]]), 1),
        "no weights": Sums(cancelling, None, 1),
        "large and small": Sums(large, None, 1),
    }, {
        "weights": Sums(x, w, None),
        "losses that cancel": Sums(cancelling, np.concatenate([w[:10], w[:10]]), None),
        "weights that cancel": Sums(x, cancelling, None),
        "weights that are 0 or 1": Sums(x, zeros_and_ones, None),
        "a number": Sums(x, None, 1000),
        "a large number": Sums(x, None, 2**24 + 1),
        "an array": Sums(x, w, np.asarray(7, dtype)),
    }


def _accurate(which: int) -> Check:
    """The check of the sums that are alone, or of those that are divided."""

    def check(backend: Backend) -> Iterator[str]:
        for dtype in DIGITS.keys() & set(float_dtypes(backend)):
            for look, given in _looks(dtype)[which].items():
                for axis in ((0,), (1,), (0, 1)):
                    what = f"of {dtype} numbers ({look}) over {axis}"
                    got = _divided(backend, given, axis)
                    yield from form(backend, what, got, np.sum(given.x, axis).shape, dtype)
                    if backend.owns(got):
                        yield from _rounded_once(backend, what, got, given, axis, dtype)

    return check


def _divided(backend: Backend, given: Sums, axis: tuple[int, ...]) -> Any:
    x, w = (None if a is None else backend.asarray(a) for a in given[:2])
    with backend.scope(None):
        numerator = backend.wide_sum(x, w, axis=axis)
        if given.denominator is None:
            return backend.quotient(numerator, backend.wide_sum(w, None, axis=axis))
        is_array = isinstance(given.denominator, np.ndarray)
        return backend.quotient(numerator, backend.asarray(given.denominator) if is_array else given.denominator)


def _rounded_once(
    backend: Backend, what: str, got: Any, given: Sums, axis: tuple[int, ...], dtype: str
) -> Iterator[str]:
    """Half a unit in the last place, and what twice the digits of the dtype keep of the summands."""
    result = np.asarray(backend.to_numpy(got))
    fractions = np.vectorize(lambda a: Fraction(float(a)), otypes=[object])
    w = np.ones_like(given.x) if given.weights is None else given.weights
    terms, weights = fractions(given.x) * fractions(w), fractions(w)
    numerator, sizes = (np.asarray(a.sum(axis), object) for a in (terms, abs(terms)))
    if given.denominator is None:
        denominator, weight_sizes = (np.asarray(a.sum(axis), object) for a in (weights, abs(weights)))
    else:
        denominator = np.full(numerator.shape, Fraction(float(given.denominator)), object)
        weight_sizes = denominator
    unit = Fraction(1, 2 ** (2 * DIGITS[dtype] - 2))
    for place in np.ndindex(*result.shape):
        exact = numerator[place] / denominator[place]
        lost = sizes[place] + abs(exact) * weight_sizes[place]
        hair = unit * given.x.size * lost / abs(denominator[place])
        half = Fraction(float(tolerances.unit(float(exact), dtype))) * Fraction(tolerances.EXACT_ULPS)
        off = abs(Fraction(float(result[place])) - exact) if np.isfinite(result[place]) else INF
        if off > half + hair:
            yield f"{what} is {result[place]!r}, expected {float(exact)!r} rounded once"
            return


def _ends(backend: Backend) -> Iterator[str]:
    """Denominators of 0 give 0, whatever is divided; and NaN and infinities stay what they are."""
    x = np.array([[1, 2, 3], [NAN, 1, 2], [INF, 1, 2], [INF, -INF, 0], [-3, 1, 2], [0, 0, 0]], F32)
    zeros, ones, cancelling = np.zeros((6, 3), F32), np.ones((6, 3), F32), np.tile(np.array([1, -2, 1], F32), (6, 1))
    means = np.array([2, NAN, INF, NAN, 0, 0], F32)
    looks: list[tuple[str, Sums, Array]] = [
        ("weights of 1", Sums(x, ones, None), means),
        ("weights of 0", Sums(np.nan_to_num(x), zeros, None), np.zeros(6, F32)),
        ("weights that cancel to 0", Sums(x, cancelling, None), np.zeros(6, F32)),
        ("the number 0", Sums(x, None, 0), np.zeros(6, F32)),
        ("an array of 0", Sums(x, None, np.zeros(6, F32)), np.zeros(6, F32)),
        ("the number 3", Sums(x, None, 3.0), means),
        ("an array", Sums(x, None, np.array([3, 0, -3, 3, 3, 0], F32)), np.array([2, 0, -INF, NAN, 0, 0], F32)),
    ]
    for name, given, expected in looks:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = _divided(backend, given, (1,))
        yield from different(backend, f"by {name}", got, expected)
    nothing = Sums(np.zeros((0, 3), F32), np.zeros((0, 3), F32), None)
    for axis, shape in (((0,), (3,)), ((0, 1), ()), ((1,), (0,))):
        yield from different(backend, f"of nothing over {axis}", _divided(backend, nothing, axis), np.zeros(shape, F32))


def _derivatives(backend: Backend) -> Iterator[str]:
    """Those of the plain quotient of plain sums, and 0 where the denominator is 0."""
    x = np.array([[1, 2, 3], [4, 5, 7], [2, 2, 1]], F32)
    w = np.array([[1, 0.5, 2.5], [0, 0, 0], [1, -1, 2]], F32)
    g = np.array([2, 4, 8], F32)
    live = np.array([[True], [False], [True]])
    total = np.where(live, w.sum(1, keepdims=True), 1)
    mean, scale = (x * w).sum(1, keepdims=True) / total, g[:, None] / total
    arrays = backend.asarray(x), backend.asarray(w)

    def of_x(x: Array) -> Array:
        return backend.quotient(backend.wide_sum(x, arrays[1], axis=(1,)), backend.wide_sum(arrays[1], None, axis=(1,)))

    def of_w(w: Array) -> Array:
        return backend.quotient(backend.wide_sum(arrays[0], w, axis=(1,)), backend.wide_sum(w, None, axis=(1,)))

    for name, function, at, expected in (
        ("the numbers", of_x, arrays[0], np.where(live, scale * w, 0)),
        ("the weights", of_w, arrays[1], np.where(live, scale * (x - mean), 0)),
    ):
        with backend.scope(None):
            differentiated = backend.vjp(function, at)
            if differentiated is None:
                return
            got = differentiated[1](backend.asarray(g))
        what = f"of sums: the gradient of {name}"
        yield from form(backend, what, got, x.shape, "float32")
        if not np.allclose(backend.to_numpy(got), expected, rtol=1e-5, atol=1e-6):
            yield f"{what} is {np.asarray(backend.to_numpy(got)).tolist()}, expected {expected.tolist()}"


def _wide_sum(backend: Backend) -> Iterator[str]:
    """Of plain numbers, seen through the quotient by 1; without and with weights, over each axis."""
    x = np.arange(12, dtype=F32).reshape(3, 4)
    for weights in (None, x + 1):
        for axis in ((0,), (1,), (0, 1)):
            got = _divided(backend, Sums(x, weights, 1), axis)
            expected = (x if weights is None else x * weights).sum(axis)
            yield from different(backend, f"over {axis}, divided by 1,", got, np.asarray(expected))
    flat = _divided(backend, Sums(x[0], x[1], 1), (0,))
    yield from different(backend, "of one axis, divided by 1,", flat, np.asarray((x[0] * x[1]).sum()))
    given = [backend.asarray(x.copy()), backend.asarray(x.copy())]
    with backend.scope(None):
        backend.wide_sum(*given, axis=(0,))
    if not all(np.array_equal(backend.to_numpy(a), x) for a in given):
        yield "writes into an argument"


CHECKS: dict[str, Check] = {
    "wide_sum": several(_wide_sum, _accurate(0)),
    "quotient": several(_accurate(1), _ends, _derivatives),
}
