"""Kernels in float64: what is rounded once for the exact mode, and sums that no order of the classes changes.

JAX has float64 inside of an opaque operation alone, so all of it goes through operations of the kit.
"""

from collections.abc import Iterator

import numpy as np

from seqloss.core.protocol import SMALLEST_ACTIVE, Array, Backend
from seqloss.testing import oracle_statistics, tolerances
from seqloss.testing.conformance.asked import placed_or_none
from seqloss.testing.conformance.comparing import float_dtypes, form, placed, representable, rounded
from seqloss.testing.conformance.ops import ExactTokens
from seqloss.testing.oracle_statistics import Statistics

PRIOR = (0.5, 0.0, 2.0, 0.25, 1.0, 0.0, 1.25)
LOOKS = (
    (False, False, None, False),
    (True, True, None, True),
    (True, True, 3.0, False),
)
"""Whether lse and unl are asked for, the cap, and whether there is a prior."""


def token_statistics(backend: Backend) -> Iterator[str]:
    yield from _rounded_outputs(backend, soft=False)
    yield from _any_order(backend)


def label_statistics(backend: Backend) -> Iterator[str]:
    yield from _rounded_outputs(backend, soft=True)


def token_pullback(backend: Backend) -> Iterator[str]:
    yield from _rounded_gradients(backend, soft=False)
    yield from _next_to_ties(backend)


def label_pullback(backend: Backend) -> Iterator[str]:
    yield from _rounded_gradients(backend, soft=True)


def _rounded_outputs(backend: Backend, soft: bool) -> Iterator[str]:
    for what, z, y, op, prior, arrays in _calls(backend, soft):
        with backend.scope(None):
            outputs, _ = backend.explicit(op, arrays).forward(*arrays)
        exact = _exact(z, y, op, prior)
        names = [name for name, wanted in (("nll", True), ("lse", op.lse), ("unl", op.unl)) if wanted]
        for name, got in zip(names, outputs, strict=True):
            yield from form(backend, f"{what} {name}", got, z.shape[:-1], "float32")
            yield from _equal(backend, f"{what} {name}", got, getattr(exact, name), "float32")


def _rounded_gradients(backend: Backend, soft: bool) -> Iterator[str]:
    """Rounded once, with zeros in place of subnormal float32 numbers."""
    for what, z, y, op, prior, arrays in _calls(backend, soft):
        explicit = backend.explicit(op, arrays)
        count = z.shape[0]
        ends = ((0.5, 2.0), (-1.5, -0.25), (1.75, 0.25))
        wanted = [np.linspace(*end, count).astype("float32") for end in ends[: 1 + op.lse + op.unl]]
        with backend.scope(None):
            outputs, residuals = explicit.forward(*arrays)
            upstream = [backend.asarray(g) for g in wanted[: len(outputs)]]
            gradient, to_labels, _ = explicit.pullback(arrays, residuals, upstream)
        exact = _exact(z, y, op, prior)
        rows, _ = oracle_statistics.pulled(exact, *wanted)
        dtype = backend.dtype(arrays[0])
        if soft:
            yield from form(backend, f"{what} the gradient of the labels", to_labels, z.shape, "float32")
            to_each = wanted[0][:, None] * exact.dlabels
            yield from _equal(backend, f"{what} the gradient of the labels", to_labels, to_each, "float32")
        yield from form(backend, f"{what} the gradient", gradient, z.shape, dtype)
        yield from _equal(backend, f"{what} the gradient", gradient, rows, dtype)


def _next_to_ties(backend: Backend) -> Iterator[str]:
    """Gradients a hair above the middle of two numbers of half precision, where float32 would round to that middle."""
    for dtype in {"float16", "bfloat16"} & set(float_dtypes(backend)):
        middle = np.longdouble(1 + tolerances.PRECISION[dtype].epsilon / 2)
        z = np.stack([np.arange(1, 129) / 1024, np.zeros(128)], -1)
        p = 1 / (1 + np.exp(-z[:, 0].astype(np.longdouble)))
        g = (middle / p).astype("float32")
        above = g * p / middle - 1
        chosen = (above > 2.0**-28) & (above < 2.0**-25)
        z, g, y = representable(z[chosen], dtype), g[chosen], np.ones(chosen.sum(), int)
        op = ExactTokens(backend, lse=False, unl=False, softcap=None)
        arrays = [placed(backend, z, dtype), backend.asarray(y), None]
        explicit = backend.explicit(op, arrays)
        with backend.scope(None):
            _, residuals = explicit.forward(*arrays)
            gradient = explicit.pullback(arrays, residuals, [backend.asarray(g)])[0]
        rows, _ = oracle_statistics.pulled(oracle_statistics.of_tokens(z, y), g)
        yield from _equal(backend, f"of {dtype} logits in float64, next to a tie: the gradient", gradient, rows, dtype)


def _calls(
    backend: Backend, soft: bool
) -> Iterator[tuple[str, Array, Array, ExactTokens, Array | None, list[Array | None]]]:
    for dtype in set(float_dtypes(backend)) - {"float64"}:
        z, y = _logits(dtype), _labels(soft)
        # What is asked for changes no rounding.
        for lse, unl, softcap, given in LOOKS if dtype == "float32" else LOOKS[1:2]:
            op = ExactTokens(backend, lse, unl, softcap, soft)
            prior = np.array(PRIOR, "float32") if given else None
            arrays = [placed(backend, z, dtype), backend.asarray(y), placed_or_none(backend, prior)]
            more = "".join(text for text in (" and a prior" * given, f" and a cap of {softcap}" if softcap else ""))
            yield f"of {dtype} logits in float64{more}:", z, y, op, prior, arrays


def _logits(dtype: str) -> Array:
    """Ordinary tokens; the first has an entry whose gradient is subnormal in float32, another one is sure."""
    z = np.random.default_rng(0).normal(0, 2, (8, 7)).round(2)
    z[0, 0] = z[0].max() - 87.5
    z[1, 3] = 18
    z[2, 4] = -np.inf
    return representable(z, dtype)


def _labels(soft: bool) -> Array:
    if not soft:
        return np.array([2, 3, 1, 0, 6, 5, 4, 2])
    labels = np.random.default_rng(1).integers(1, 9, (8, 7)) / 8
    labels[2, 4], labels[3] = 0, np.eye(7)[5]
    return labels.astype("float32")


def _exact(z: Array, y: Array, op: ExactTokens, prior: Array | None) -> Statistics:
    if op.soft:
        return oracle_statistics.of_labels(z, y, None, prior, op.softcap)
    return oracle_statistics.of_tokens(z, y, prior, op.softcap)


def _equal(backend: Backend, what: str, got: Array, exact: Array, dtype: str) -> Iterator[str]:
    """The true value, rounded to the nearest once; 0 where it is below the smallest normal float32."""
    if not backend.owns(got) or backend.shape(got) != exact.shape:
        return  # its form was reported
    wanted = rounded(np.where(abs(exact) < SMALLEST_ACTIVE, 0, exact), dtype)
    result = np.asarray(backend.to_numpy(got)).astype("float64")
    for place in np.argwhere((result != wanted) & ~(np.isnan(result) & np.isnan(wanted)))[:1]:
        at = tuple(int(i) for i in place)
        yield f"{what} is {result[at]!r} at {list(at)}, expected {float(exact[at])!r} rounded once"


def _any_order(backend: Backend) -> Iterator[str]:
    """The same bits of nll and lse for any order of the classes, where the model is sure too."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(0, 1, (16, 1000)).astype("float32"), rng.integers(0, 1000, 16)
    z[np.arange(8), y[:8]] += np.linspace(10, 80, 8, dtype="float32")
    op = ExactTokens(backend, lse=True, unl=False, softcap=None, whole=True)
    bits = []
    for order in (np.arange(1000), np.arange(1000)[::-1], rng.permutation(1000), rng.permutation(1000)):
        moved = np.argsort(order)[y]
        arrays = [backend.asarray(np.ascontiguousarray(z[:, order])), backend.asarray(moved), None]
        with backend.scope(None):
            outputs, _ = backend.explicit(op, arrays).forward(*arrays)
        parts = [np.asarray(backend.to_numpy(x)).astype("float64") for x in outputs]
        bits.append([sum(parts[:3]), sum(parts[3:])])
    for name, place in (("nll", 0), ("lse", 1)):
        changed = sum(np.count_nonzero(other[place] != bits[0][place]) for other in bits[1:])
        if changed:
            yield f"in float64: other orders of the classes change the bits of {name} {changed} times out of 48"
