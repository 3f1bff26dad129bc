"""The kernels of independent classes against the oracle, on every pair of a logit and a label that is a trap."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from seqloss.core.dtypes import compute_dtype
from seqloss.core.protocol import Array, Backend
from seqloss.testing import oracle, tolerances
from seqloss.testing.conformance.comparing import Check, float_dtypes, form, placed, representable, values, watched

NAN, INF = float("nan"), float("inf")

# Right and sure (where max(x, 0) - x y cancels), wrong and sure, undecided, and no number at all.
LOGITS = (0.5, -1.25, 0.0, 25.0, -25.0, 100.0, -100.0, NAN, INF, -INF)
LABELS = (0.0, 1.0, 0.25, 2.0, -0.5)
WEIGHTS = (1.0, 2.5, 0.25, 0.0)


class Entries(NamedTuple):
    """Arrays of one shape [2, entries]; the second row has cotangents of 0."""

    logits: Array
    labels: Array
    pos_weight: Array
    cotangent: Array


def entries(dtype: str) -> Entries:
    compute = compute_dtype(dtype)
    logits, labels, weights = (x.reshape(-1) for x in np.meshgrid(LOGITS, LABELS, WEIGHTS, indexing="ij"))
    cotangent = np.linspace(0.5, 2, logits.size) * np.array([[1], [0]])
    logits, labels, weights = (np.stack([x, x]) for x in (logits, labels, weights))
    return Entries(
        representable(logits, dtype), labels.astype(compute), weights.astype(compute), cotangent.astype(compute)
    )


def _sigmoid_nll(backend: Backend) -> Iterator[str]:
    for dtype, given, what, arrays in _calls(backend):
        got, written = watched(backend, backend.sigmoid_nll, arrays)
        yield from (f"{what} {text}" for text in written)
        yield from _losses(backend, what, got, given, arrays[2] is not None, dtype)


def _sigmoid_pullback(backend: Backend) -> Iterator[str]:
    for dtype, given, what, arrays in _calls(backend):
        for wanted in (False, True):
            arguments = [backend.asarray(given.cotangent), *arrays, wanted]
            got, written = watched(backend, backend.sigmoid_pullback, arguments)
            yield from (f"{what} {text}" for text in written)
            yield from _gradients(backend, what, tuple(got) if wanted else (got[0],), given, arrays[2], dtype)


def _calls(backend: Backend) -> Iterator[tuple[str, Entries, str, list[Array]]]:
    for dtype in float_dtypes(backend):
        given = entries(dtype)
        logits = placed(backend, given.logits, dtype)
        labels, pos_weight = (backend.asarray(x) for x in given[1:3])
        yield dtype, given, f"of {dtype} logits:", [logits, labels, None]
        yield dtype, given, f"of {dtype} logits with pos_weight:", [logits, labels, pos_weight]


def _losses(backend: Backend, what: str, got: Array, given: Entries, weighted: bool, dtype: str) -> Iterator[str]:
    exact = oracle.binary_entries(given.logits, given.labels, given.pos_weight if weighted else 1.0)
    yield from form(backend, f"{what} nll", got, given.logits.shape, compute_dtype(dtype))
    yield from values(backend, f"{what} nll", got, exact.nll, np.asarray(tolerances.TIGHT_ULPS), dtype, exact.nll_scale)


def _gradients(
    backend: Backend, what: str, got: tuple[Array, ...], given: Entries, pos_weight: Array | None, dtype: str
) -> Iterator[str]:
    exact = oracle.binary_entries(given.logits, given.labels, 1.0 if pos_weight is None else given.pos_weight)
    wanted = [
        ("logits", exact.dlogits, exact.dlogits_scale, dtype),
        ("labels", exact.dlabels, exact.dlabels_scale, compute_dtype(dtype)),
        ("pos_weight", exact.dpos_weight, np.zeros(()), compute_dtype(dtype)),
    ]
    g, bound = given.cotangent, np.asarray(tolerances.TIGHT_ULPS)
    for (name, slope, scale, own), array in zip(wanted, got, strict=False):
        if name == "pos_weight" and pos_weight is None:
            if array is not None:
                yield f"{what} the gradient of pos_weight is {array!r}, expected None"
            continue
        yield from form(backend, f"{what} the gradient of {name}", array, slope.shape, own)
        # Where the cotangent is 0 so is the gradient, whatever stands there.
        with np.errstate(all="ignore"):
            expected, size = np.where(g == 0, 0, g * slope), np.where(g == 0, 0, g * scale)
        yield from values(backend, f"{what} the gradient of {name}", array, expected, bound, dtype, size)


CHECKS: dict[str, Check] = {
    "sigmoid_nll": _sigmoid_nll,
    "sigmoid_pullback": _sigmoid_pullback,
}
