"""Statistics of tokens and their gradients, as a backend returns them, against the oracle."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from seqloss.core import contract
from seqloss.core.dtypes import compute_dtype
from seqloss.core.protocol import Array, Backend
from seqloss.testing import oracle_statistics, tolerances
from seqloss.testing.conformance.asked import Asked
from seqloss.testing.conformance.comparing import form, values
from seqloss.testing.oracle_statistics import Statistics


def statistics(
    backend: Backend,
    what: str,
    got: Any,
    exact: Statistics,
    z: Array,
    asked: Asked,
    active: Array | None,
    dtype: str,
    tokens: Sequence[str],
) -> Iterator[str]:
    """Each statistic that was asked for is right, and the others are None. Tokens that are not active are 0."""
    compute, shape = compute_dtype(dtype), z.shape[:-1]
    if not isinstance(got, contract.Statistics) or not isinstance(got.saved, tuple):
        saved = f" with a {type(got.saved).__qualname__} as saved" if isinstance(got, contract.Statistics) else ""
        yield f"{what} is a {type(got).__qualname__}{saved}, expected seqloss.core.contract.Statistics with a tuple"
        return
    bound, _ = tolerances.capped_bound(z, asked.softcap)
    cap = np.inf if asked.softcap is None else asked.softcap
    of_lse = tolerances.LSE_ULPS + (0 if asked.softcap is None else tolerances.CAP_ULPS)
    bounds = {"nll": bound, "lse": np.asarray(of_lse), "unl": bound}
    highest = np.minimum(abs(np.where(np.isfinite(z), z, -np.inf).max(-1)), cap)
    # A single term is as good as its bound says; only sums may have lost what their summands were rounded by.
    cancels = exact.nll_scale > abs(exact.nll) * (1 + 1e-9)
    scales = {
        "nll": np.where(cancels, exact.nll_scale, 0),
        "lse": np.maximum(highest, np.log(z.shape[-1])),
        "unl": np.zeros(()),
    }
    for name, array in zip(("nll", "lse", "unl"), got[:3], strict=True):
        if name not in asked.names:
            yield from _absent(f"{what} {name}", array)
            continue
        yield from form(backend, f"{what} {name}", array, shape, compute)
        expected = _settled(backend, array, getattr(exact, name), exact)
        expected = expected if active is None else np.where(active, expected, 0)
        scale = scales[name] if active is None else np.where(active, scales[name], 0)
        yield from values(backend, f"{what} {name}", array, expected, bounds[name], dtype, scale, tokens)
    if asked.unl:
        yield from form(backend, f"{what} mass", got[3], shape, compute)
        yield from _mass(backend, f"{what} mass", got[3], exact, active, dtype)
    else:
        yield from _absent(f"{what} mass", got[3])


def gradient(
    backend: Backend,
    what: str,
    got: Any,
    given: dict[str, Array],
    exact: Statistics,
    z: Array,
    asked: Asked,
    dtype: str,
    tokens: Sequence[str] = (),
) -> Iterator[str]:
    """The gradient of logits for these cotangents, which are 0 at tokens that are not active."""
    yield from form(backend, f"{what} the gradient", got, z.shape, dtype)
    rows, scale = oracle_statistics.pulled(exact, *(given.get(name) for name in ("nll", "lse", "unl")))
    # A bad label makes the row of any cotangent NaN.
    live = np.logical_or.reduce([x != 0 for x in given.values()]) if given else np.zeros(z.shape[:-1], bool)
    rows = np.where((np.isnan(exact.nll) & live)[..., None], np.nan, rows)
    _, bound = tolerances.capped_bound(z, asked.softcap)
    scale = np.where(scale > abs(rows) * (1 + 1e-9), scale, 0)  # as above
    yield from values(backend, f"{what} the gradient", got, rows, bound, dtype, scale, tokens)


def saved(backend: Backend, numbers: Any, tokens: int, classes: int) -> Iterator[str]:
    """What a forward kernel keeps for its pullback is a few numbers per token."""
    kept = sum(int(np.size(backend.to_numpy(x) if backend.owns(x) else np.asarray(x))) for x in _flat(numbers))
    if kept > 16 * tokens:
        yield f"saves {kept} numbers for {tokens} tokens of {classes} classes"


def _flat(saved: object) -> Iterator[object]:
    if isinstance(saved, (tuple, list)):
        for part in saved:
            yield from _flat(part)
    elif saved is not None:
        yield saved


def _absent(what: str, got: Any) -> Iterator[str]:
    if got is not None:
        yield f"{what} is a {type(got).__qualname__}, expected None: it was not asked for"


def _settled(backend: Backend, got: Any, expected: Array, exact: Statistics) -> Array:
    """What is expected of a statistic. Where the label alone is bad, one that does not depend on it may be NaN too."""
    if not backend.owns(got) or backend.shape(got) != expected.shape:
        return expected
    free = np.isnan(exact.nll) & np.isnan(np.asarray(backend.to_numpy(got)))
    return np.where(free, np.nan, expected)


def _mass(backend: Backend, what: str, got: Any, exact: Statistics, active: Array | None, dtype: str) -> Iterator[str]:
    """The mass is right where the token has statistics; elsewhere it is any number."""
    if not backend.owns(got) or backend.shape(got) != exact.mass.shape:
        return
    result = np.asarray(backend.to_numpy(got))
    free = np.isnan(exact.nll) if active is None else np.isnan(exact.nll) | ~active
    expected = np.where(free, np.where(np.isnan(result), 0, result), exact.mass)
    yield from values(backend, what, got, expected, np.asarray(4.0), dtype)
