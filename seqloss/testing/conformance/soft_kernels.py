"""The kernels of soft labels against the oracle; what each token of the arrays is for stands beside it."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from seqloss.core.dtypes import compute_dtype
from seqloss.core.protocol import Array, Backend, LabelStatistics
from seqloss.testing import oracle, tolerances
from seqloss.testing.conformance.comparing import float_dtypes, form, values, watched

NAN, INF = float("nan"), float("inf")

# Logits, labels and the mass of a token; a mass of None is the sum of the labels.
TRAPS: dict[str, tuple[list[float], list[float], float | None]] = {
    "ordinary": ([0.5, -1, 2, 0.25], [0.1, 0.2, 0.3, 0.4], None),
    "confident and right": ([25, 0, -0.5, 0.25], [1, 0, 0, 0], None),
    "confident, and nearly right": ([0.5, 25, -0.5, 0.25], [0, 0.75, 0.25, 0], None),
    "confident and wrong": ([25, 0, -0.5, 0.25], [0, 1, 0, 0], None),
    "impossible, label 0": ([0.5, -INF, 2, 0.25], [0.5, 0, 0.25, 0.25], None),
    "impossible, but asked for": ([0.5, -INF, 2, 0.25], [0.5, 0.25, 0.25, 0], None),
    "NaN": ([0.5, NAN, 2, 0.25], [0.5, 0, 0.25, 0.25], None),
    "NaN first": ([NAN, 3, 2, 0.25], [0, 0, 1, 0], None),
    "infinite": ([0.5, INF, 2, 0.25], [0.5, 0, 0.25, 0.25], None),
    "nothing possible": ([-INF] * 4, [0.5, 0, 0.25, 0.25], None),
    "labels of sum 3": ([0.5, -1, 2, 0.25], [1, 0, 1.5, 0.5], None),
    "labels of sum 3, mass 1": ([0.5, -1, 2, 0.25], [1, 0, 1.5, 0.5], 1),
    "negative labels": ([0.5, -1, 2, 0.25], [-0.5, 0.5, -1, 2], None),
    "no labels": ([0.5, -1, 2, 0.25], [0, 0, 0, 0], None),
    "no labels, mass 1": ([0.5, -1, 2, 0.25], [0, 0, 0, 0], 1),
    "tied": ([2, -1, 2, 0.25], [0.25, 0.25, 0.5, 0], None),
    "tied, label last": ([2, 2, 2, 2], [0, 0, 0, 1], None),
    "far from 0": ([10000.5, 9999, 10002, 10000.25], [0.1, 0.2, 0.3, 0.4], None),
}


class Tokens(NamedTuple):
    """logits and labels [2, tokens, 4], the others [2, tokens]; the second row has cotangents of 0."""

    logits: Array
    labels: Array
    mass: Array
    cotangent: Array


def tokens(dtype: str) -> Tokens:
    compute = compute_dtype(dtype)
    logits, labels = (np.array([trap[i] for trap in TRAPS.values()], float) for i in range(2))
    labels = labels.astype(compute)
    given = np.array([NAN if trap[2] is None else trap[2] for trap in TRAPS.values()])
    mass = np.where(np.isnan(given), labels.sum(-1), given).astype(compute)
    cotangent = np.linspace(0.5, 2, len(TRAPS)) * np.array([[1], [0]])
    logits, labels, mass = (np.stack([x, x]) for x in (logits.astype(dtype), labels, mass))
    return Tokens(logits, labels, mass, cotangent.astype(compute))


def _softmax_nll(backend: Backend) -> Iterator[str]:
    for dtype in float_dtypes(backend):
        given = tokens(dtype)
        what = f"of {dtype} logits:"
        arrays = [backend.asarray(x) for x in given[:2]]
        statistics, written = watched(backend, backend.softmax_nll, arrays)
        yield from (f"{what} {text}" for text in written)
        for name, got in zip(("nll", "shift", "rest"), statistics, strict=True):
            yield from form(backend, f"{what} {name}", got, given.mass.shape, compute_dtype(dtype))
        yield from _losses(backend, what, statistics[0], given, dtype)


def _softmax_nll_pullback(backend: Backend) -> Iterator[str]:
    for dtype in float_dtypes(backend):
        given = tokens(dtype)
        logits, labels, mass, cotangent = (backend.asarray(x) for x in given)
        with backend.scope(None):
            statistics = LabelStatistics(*backend.softmax_nll(logits, labels))
        for wanted in (False, True):
            what = f"of {dtype} logits{' and labels' if wanted else ''}:"
            arguments = [cotangent, logits, labels, mass, statistics, wanted]
            (to_logits, to_labels), written = watched(backend, backend.softmax_nll_pullback, arguments)
            yield from (f"{what} {text}" for text in written)
            yield from _gradients(backend, what, to_logits, (to_labels,) if wanted else (), given, dtype)


def _differentiable_softmax_nll(backend: Backend) -> Iterator[str]:
    for dtype in float_dtypes(backend):
        given = tokens(dtype)
        what = f"of {dtype} logits:"
        logits, labels, mass, cotangent = (backend.asarray(x) for x in given)
        with backend.scope(None):
            value = backend.differentiable_softmax_nll(logits, labels, mass)
            yield from form(backend, f"{what} nll", value, given.mass.shape, compute_dtype(dtype))
            yield from _losses(backend, what, value, given, dtype)
            one = backend.vjp(lambda z: backend.differentiable_softmax_nll(z, labels, mass), logits)  # noqa: B023
            other = backend.vjp(lambda y: backend.differentiable_softmax_nll(logits, y, mass), labels)  # noqa: B023
            if one is not None and other is not None:
                yield from _gradients(backend, what, one[1](cotangent), (other[1](cotangent),), given, dtype)


def _losses(backend: Backend, what: str, got: Array, given: Tokens, dtype: str) -> Iterator[str]:
    exact = oracle.soft_tokens(given.logits, given.labels)
    bound = tolerances.token_bound(given.logits)
    yield from values(backend, f"{what} nll", got, exact.nll, bound, dtype, exact.nll_scale)


def _gradients(
    backend: Backend, what: str, to_logits: Array, to_labels: tuple[Array, ...], given: Tokens, dtype: str
) -> Iterator[str]:
    exact = oracle.soft_tokens(given.logits, given.labels, given.mass)
    bound, g = tolerances.token_bound(given.logits)[..., None], given.cotangent[..., None]
    wanted = [("logits", to_logits, exact.dlogits, exact.dlogits_scale, dtype)]
    compute = compute_dtype(dtype)
    wanted.extend(("labels", array, exact.dlabels, np.zeros(()), compute) for array in to_labels)
    for name, got, slope, scale, own in wanted:
        yield from form(backend, f"{what} the gradient of {name}", got, slope.shape, own)
        # Where the cotangent is 0 so is the row, whatever it holds.
        with np.errstate(all="ignore"):
            expected, size = np.where(g == 0, 0, g * slope), np.where(g == 0, 0, g * scale)
        if backend.owns(got):
            yield from values(backend, f"{what} the gradient of {name}", got, expected, bound, dtype, size)


CHECKS: dict[str, Callable[[Backend], Iterator[str]]] = {
    "softmax_nll": _softmax_nll,
    "softmax_nll_pullback": _softmax_nll_pullback,
    "differentiable_softmax_nll": _differentiable_softmax_nll,
}
