"""The kernels of soft labels against the oracle; each token of the arrays has a text that says what it is for."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from seqloss.core.contract import Spec
from seqloss.core.dtypes import compute_dtype
from seqloss.core.protocol import Array, Backend
from seqloss.testing import oracle_statistics, tolerances
from seqloss.testing.conformance import asked as asking
from seqloss.testing.conformance import exact, judging
from seqloss.testing.conformance.asked import Asked, placed_or_none
from seqloss.testing.conformance.comparing import (
    Check,
    float_dtypes,
    form,
    placed,
    representable,
    several,
    values,
    watched,
)
from seqloss.testing.oracle_statistics import Statistics

NAN, INF = float("nan"), float("inf")
_Arrays = tuple[Array, Array, Array | None, Array | None]

# Logits, labels and the mass of a token; a mass of None is the sum of the labels.
TRAPS: dict[str, tuple[list[float], list[float], float | None]] = {
    "ordinary": ([0.5, -1, 2, 0.25], [0.1, 0.2, 0.3, 0.4], None),
    "confident and right": ([25, 0, -0.5, 0.25], [1, 0, 0, 0], None),
    "confident, and nearly right": ([0.5, 25, -0.5, 0.25], [0, 0.75, 0.25, 0], None),
    "confident and wrong": ([25, 0, -0.5, 0.25], [0, 1, 0, 0], None),
    "impossible, label 0": ([0.5, -INF, 2, 0.25], [0.5, 0, 0.25, 0.25], None),
    "impossible, but asked for": ([0.5, -INF, 2, 0.25], [0.5, 0.25, 0.25, 0], None),
    "one class is possible": ([-INF, -INF, 2, -INF], [0, 0, 1, 0], None),
    "no prior is possible": ([-INF, 1, -INF, 0.25], [0, 0.5, 0, 0.5], None),
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
TOKENS = tuple(map(repr, TRAPS))
PRIOR = (0.5, 0.0, 2.0, 0.0)


class Tokens(NamedTuple):
    """logits and labels [2, tokens, 4], mass [2, tokens]; the second row gets no cotangents."""

    logits: Array
    labels: Array
    mass: Array


def tokens(dtype: str) -> Tokens:
    compute = compute_dtype(dtype)
    logits, labels = (np.array([trap[i] for trap in TRAPS.values()], float) for i in range(2))
    labels = labels.astype(compute)
    given = np.array([NAN if trap[2] is None else trap[2] for trap in TRAPS.values()])
    mass = np.where(np.isnan(given), labels.sum(-1), given).astype(compute)
    return Tokens(*(np.stack([x, x]) for x in (representable(logits, dtype), labels, mass)))


def _calls(backend: Backend) -> Iterator[tuple[str, Tokens, Asked, Array | None, str, _Arrays]]:
    """A text, the tokens, what is asked for, which are active, the dtype of the logits, and the arrays of a call."""
    for dtype in float_dtypes(backend):
        given = tokens(dtype)
        for asked in asking.choice(PRIOR, dtype):
            active = asking.mask(given.mass.shape) if asked.masked else None
            mask, prior = (placed_or_none(backend, x) for x in (active, asked.given(dtype)))
            arrays = placed(backend, given.logits, dtype), backend.asarray(given.labels), mask, prior
            yield f"of {dtype} logits ({asked}):", given, asked, active, dtype, arrays


def _label_statistics(backend: Backend) -> Iterator[str]:
    for what, given, asked, active, dtype, arrays in _calls(backend):
        got, written = watched(backend, backend.label_statistics, [*arrays, asked.spec(compute_dtype(dtype))])
        yield from (f"{what} {text}" for text in written)
        expected = oracle_statistics.of_labels(given.logits, given.labels, None, asked.prior, asked.softcap)
        yield from judging.statistics(backend, what, got, expected, given.logits, asked, active, dtype, TOKENS)


def _label_pullback(backend: Backend) -> Iterator[str]:
    for what, given, asked, active, dtype, arrays in _calls(backend):
        spec = asked.spec(compute_dtype(dtype))
        expected = oracle_statistics.of_labels(given.logits, given.labels, given.mass, asked.prior, asked.softcap)
        with backend.scope(None):
            statistics = backend.label_statistics(*arrays, spec)
        for name, cotangents in asking.upstream(asked, given.mass.shape, dtype):
            used = {key: x if active is None else np.where(active, x, 0) for key, x in cotangents.items()}
            # Whether the labels want a gradient is independent of all else.
            wanted = name != "a cotangent of nll, and zeros"
            mass = backend.asarray(given.mass)
            more = [*arrays[:2], mass, *arrays[2:], statistics, spec, wanted]
            arguments = [asking.cotangents(backend, cotangents), *more]
            got, written = watched(backend, backend.label_pullback, arguments)
            yield from (f"{what} {name}: {text}" for text in written)
            if not isinstance(got, tuple) or len(got) != 2:
                yield f"{what} {name}: is a {type(got).__qualname__}, expected a tuple of two gradients"
                continue
            to_logits, to_labels = got
            yield from judging.gradient(
                backend, f"{what} {name}:", to_logits, used, expected, given.logits, asked, dtype, TOKENS
            )
            if wanted:
                yield from _to_labels(backend, f"{what} {name}:", to_labels, used, expected, given, asked, dtype)


def _many_classes(backend: Backend) -> Iterator[str]:
    """Of many classes each has a small share, the highest too: nothing may be counted from 1."""
    rng = np.random.default_rng(4)
    z = representable(rng.uniform(size=(3, 4096)), "float32")
    y = (np.exp(2 * z) / np.exp(2 * z).sum(-1, keepdims=True)).astype("float32")
    given, asked, spec = {"nll": np.ones(3, "float32")}, Asked(), Asked().spec("float32")
    logits, labels, mass = (placed(backend, x, "float32") for x in (z, y, y.sum(-1)))
    with backend.scope(None):
        statistics = backend.label_statistics(logits, labels, None, None, spec)
        more = [mass, None, None, statistics, spec, False]
        got, _ = backend.label_pullback(asking.cotangents(backend, given), logits, labels, *more)
    expected = oracle_statistics.of_labels(z, y, y.sum(-1))
    yield from judging.gradient(backend, "of 4096 classes:", got, given, expected, z, asked, "float32")


def _saved(backend: Backend) -> Iterator[str]:
    """Beside the statistics only numbers per token are kept. (Of tiny inputs more may be.)"""
    rng = np.random.default_rng(0)
    logits, labels = (backend.asarray(rng.uniform(size=(64, 1000)).astype("float32")) for _ in range(2))
    with backend.scope(None):
        statistics = backend.label_statistics(logits, labels, None, None, Spec("float32", True, True, 30.0))
    yield from judging.saved(backend, statistics.saved, 64, 1000)


def _to_labels(
    backend: Backend,
    what: str,
    got: Any,
    used: dict[str, Array],
    exact: Statistics,
    given: Tokens,
    asked: Asked,
    dtype: str,
) -> Iterator[str]:
    what = f"{what} the gradient of the labels"
    yield from form(backend, what, got, given.labels.shape, compute_dtype(dtype))
    if not backend.owns(got) or backend.shape(got) != given.labels.shape:
        return
    costs = np.asarray(exact.dlabels)
    g = np.broadcast_to(used.get("nll", np.zeros(given.mass.shape))[..., None], costs.shape)
    unused = ~np.logical_or.reduce([x != 0 for x in used.values()])[..., None] if used else np.ones_like(g, bool)
    with np.errstate(all="ignore"):
        # Where the cotangent is 0 so is the row, whatever it holds.
        expected = np.where(unused | ((g == 0) & np.isfinite(costs)), 0, g * costs)
    # An infinite cost of which nothing but lse or unl is asked: 0 or NaN.
    result = np.asarray(backend.to_numpy(got))
    expected = np.where(~unused & (g == 0) & ~np.isfinite(costs) & (result == 0), 0, expected)
    bound, _ = tolerances.capped_bound(given.logits, asked.softcap)
    yield from values(backend, what, got, expected, bound[..., None], dtype)


CHECKS: dict[str, Check] = {
    "label_statistics": several(_label_statistics, _saved, exact.label_statistics),
    "label_pullback": several(_label_pullback, _many_classes, exact.label_pullback),
}
