"""The kernel pair of one label against the oracle; each token of the arrays has a text that says what it is for."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from seqloss.core.contract import Cotangents, Spec
from seqloss.core.dtypes import compute_dtype
from seqloss.core.protocol import Array, Backend
from seqloss.testing import oracle, oracle_statistics, tolerances
from seqloss.testing.conformance import asked as asking
from seqloss.testing.conformance import exact, judging
from seqloss.testing.conformance.asked import Asked, placed_or_none
from seqloss.testing.conformance.comparing import (
    Check,
    different,
    float_dtypes,
    placed,
    representable,
    several,
    values,
    watched,
)

NAN, INF = float("nan"), float("inf")
_Arrays = tuple[Array, Array, Array | None, Array | None]

# Logits of six classes, and a label.
TRAPS: dict[str, tuple[list[float], int]] = {
    "ordinary": ([0.5, -1, 2, 0.25, 0, 1], 2),
    "unlikely": ([0.5, -1, 2, 0.25, 0, 1], 1),
    "sure and right: lse - t and p - 1 are 0 in float32": ([0.5, -1, 25, 0.25, 0, 1], 2),
    "surer": ([0.5, 60, 2, 0.25, 0, 1], 1),
    "sure and wrong": ([0.5, -1, 25, 0.25, 0, 1], 3),
    "equal": ([1, 1, 1, 1, 1, 1], 4),
    "tied with the label": ([0.5, -1, 2, 0.25, 2, 1], 4),
    "impossible elsewhere": ([0.5, -INF, 2, 0.25, -INF, 1], 2),
    "impossible at the label": ([0.5, -1, -INF, 0.25, 0, 1], 2),
    "the label alone is possible": ([-INF, -INF, -INF, 0.25, -INF, -INF], 3),
    "another class alone is possible": ([-INF, -INF, -INF, 0.25, -INF, -INF], 0),
    "no prior is possible": ([0.5, -INF, -INF, 0.25, -INF, 1], 0),
    "nothing is possible": ([-INF] * 6, 2),
    "NaN": ([0.5, NAN, 2, 0.25, 0, 1], 2),
    "NaN at the label": ([0.5, -1, NAN, 0.25, 0, 1], 2),
    "NaN alone": ([NAN] * 6, 2),
    "infinite": ([0.5, -1, 2, INF, 0, 1], 2),
    "infinite at the label": ([0.5, -1, INF, 0.25, 0, 1], 2),
    "NaN beside an infinity": ([0.5, NAN, INF, 0.25, -INF, 1], 0),
    "label -1": ([0.5, -1, 2, 0.25, 0, 1], -1),
    "label -100": ([0.5, -1, 2, 0.25, 0, 1], -100),
    "label too large": ([0.5, -1, 2, 0.25, 0, 1], 6),
    "far from 0": ([10000, 9992, 10008, 10000, 9984, 10000], 2),
    "far below 0": ([-300, -310, -305, -1000, -299.5, -301], 1),
}
TOKENS = tuple(map(repr, TRAPS))
PRIOR = (0.0, 0.5, 2.0, 0.0, 1.25, 0.0)


class Tokens(NamedTuple):
    """logits [2, tokens, 6] and targets [2, tokens]: the same tokens twice, of which the second get no cotangents."""

    logits: Array
    targets: Array


def tokens(dtype: str) -> Tokens:
    logits = representable(np.array([trap[0] for trap in TRAPS.values()], float), dtype)
    targets = np.array([trap[1] for trap in TRAPS.values()])
    return Tokens(np.stack([logits, logits]), np.stack([targets, targets]))


def _calls(backend: Backend) -> Iterator[tuple[str, Tokens, Asked, Array | None, str, _Arrays]]:
    """A text, the tokens, what is asked for, which are active, the dtype of the logits, and the arrays of a call."""
    for dtype in float_dtypes(backend):
        given = tokens(dtype)
        for asked in asking.choice(PRIOR, dtype):
            active = asking.mask(given.targets.shape) if asked.masked else None
            mask, prior = (placed_or_none(backend, x) for x in (active, asked.given(dtype)))
            arrays = placed(backend, given.logits, dtype), backend.asarray(given.targets), mask, prior
            yield f"of {dtype} logits ({asked}):", given, asked, active, dtype, arrays


def _token_statistics(backend: Backend) -> Iterator[str]:
    for what, given, asked, active, dtype, arrays in _calls(backend):
        spec = asked.spec(compute_dtype(dtype))
        got, written = watched(backend, backend.token_statistics, [*arrays, spec])
        yield from (f"{what} {text}" for text in written)
        expected = oracle_statistics.of_tokens(*given, asked.prior, asked.softcap)
        yield from judging.statistics(backend, what, got, expected, given.logits, asked, active, dtype, TOKENS)


def _token_pullback(backend: Backend) -> Iterator[str]:
    for what, given, asked, active, dtype, arrays in _calls(backend):
        spec = asked.spec(compute_dtype(dtype))
        expected = oracle_statistics.of_tokens(*given, asked.prior, asked.softcap)
        with backend.scope(None):
            statistics = backend.token_statistics(*arrays, spec)
        for name, cotangents in asking.upstream(asked, given.targets.shape, dtype):
            arguments = [asking.cotangents(backend, cotangents), *arrays, statistics, spec]
            got, written = watched(backend, backend.token_pullback, arguments)
            yield from (f"{what} {name}: {text}" for text in written)
            used = {key: x if active is None else np.where(active, x, 0) for key, x in cotangents.items()}
            yield from judging.gradient(
                backend, f"{what} {name}:", got, used, expected, given.logits, asked, dtype, TOKENS
            )


def _narrow_labels(backend: Backend) -> Iterator[str]:
    """Labels in a dtype that does not hold the number of classes."""
    z = np.zeros((3, 200), np.float32)
    for labels in (np.array([0, 127, -1], np.int8), np.array([0, 199, 255], np.uint8)):
        with backend.scope(None):
            nll = backend.token_statistics(backend.asarray(z), backend.asarray(labels), None, None, Spec("float32")).nll
        bound, expected = tolerances.token_bound(z), oracle.tokens(z, labels).nll
        yield from values(backend, f"of {labels.dtype.name} labels: nll", nll, expected, bound, "float32")


def _saved(backend: Backend) -> Iterator[str]:
    """Beside the statistics only numbers per token are kept. (Of tiny inputs more may be.)"""
    count, classes = 64, 1000
    rng = np.random.default_rng(0)
    arrays = backend.asarray(rng.normal(size=(count, classes)).astype("float32")), backend.asarray(np.arange(count))
    with backend.scope(None):
        statistics = backend.token_statistics(*arrays, None, None, Spec("float32", True, True, 30.0))
    yield from judging.saved(backend, statistics.saved, count, classes)


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


def _is_highest(backend: Backend) -> Iterator[str]:
    """In rows of more classes than a register holds; the others are below, in float16 too."""
    rows: dict[str, tuple[dict[int, float], int, bool]] = {
        "the highest": ({70: 5}, 70, True),
        "not the highest": ({70: 5}, 71, False),
        "the first of two": ({3: 5, 70: 5}, 3, True),
        "not the first of two": ({3: 5, 70: 5}, 70, False),
        "zeros of both signs": ({3: -0.0, 70: 0.0}, 3, True),
        "beside NaN in front": ({3: NAN, 70: 5}, 70, False),
        "beside NaN behind": ({70: 5, 150: NAN}, 70, False),
        "NaN": ({70: NAN}, 70, False),
        "infinite": ({70: INF}, 70, True),
        "possible alone": ({i: -INF for i in range(200) if i != 70}, 70, True),
        "one of none that are possible": (dict.fromkeys(range(200), -INF), 0, True),
        "no class": ({70: 5}, 200, False),
        "negative": ({0: 5}, -1, False),
    }
    z = np.full((len(rows), 200), -1.0)
    for row, (logits, _, _) in zip(z, rows.values(), strict=True):
        row[list(logits)] = list(logits.values())
    labels = np.array([label for _, label, _ in rows.values()], "int32")
    expected = np.array([is_right for *_, is_right in rows.values()])
    for dtype in float_dtypes(backend):
        got = backend.is_highest(placed(backend, z, dtype), backend.asarray(labels))
        yield from different(backend, f"in {dtype}, of labels that are {', '.join(rows)}", got, expected)
    nothing = backend.is_highest(
        backend.asarray(np.zeros((2, 0, 6), "float32")), backend.asarray(np.zeros((2, 0), int))
    )
    yield from different(backend, "of no tokens", nothing, np.zeros((2, 0), bool))


def _nothing(backend: Backend) -> Iterator[str]:
    """No tokens at all."""
    arrays = backend.asarray(np.zeros((0, 6), np.float32)), backend.asarray(np.zeros(0, int)), None, None
    spec = Spec("float32", True, True)
    with backend.scope(None):
        statistics = backend.token_statistics(*arrays, spec)
        one = backend.asarray(np.zeros(0, np.float32))
        gradient = backend.token_pullback(Cotangents(one, one, None), *arrays, statistics, spec)
    yield from different(backend, "of no tokens: nll", statistics.nll, np.zeros(0, np.float32))
    yield from different(backend, "of no tokens: the gradient", gradient, np.zeros((0, 6), np.float32))


CHECKS: dict[str, Check] = {
    "indices": _indices,
    "is_highest": _is_highest,
    "token_statistics": several(_token_statistics, _narrow_labels, _saved, exact.token_statistics),
    "token_pullback": several(_token_pullback, _nothing, exact.token_pullback),
}
