"""The tables of cases and of functions, run eagerly on arrays of a backend, against the oracle.

What the functions of a backend do one by one is for the other checks. Here the public functions put them together.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import seqloss
from seqloss.core import dispatch
from seqloss.core.dtypes import compute_dtype
from seqloss.core.protocol import Array, Backend
from seqloss.testing import oracle, tolerances
from seqloss.testing.cases import CASES, Case
from seqloss.testing.conformance.comparing import densified, float_dtypes, form, placed, raised, representable, values
from seqloss.testing.families import FAMILIES
from seqloss.testing.families.family import Family
from seqloss.testing.families.reference import Expected


def violations(backend: Backend) -> Iterator[str]:
    """What is wrong, with the name of the row."""
    with _registered(backend), np.errstate(all="ignore"):
        for dtype in float_dtypes(backend):
            for case in CASES:
                yield from _outcome(f"{case.name} in {dtype}", lambda case=case: _case(backend, case, dtype))  # noqa: B023
            for row in FAMILIES:
                # What has no gradient is so in any dtype.
                if (dtype == "float32" or row.wrt) and "eager" not in row.refusals:
                    yield from _outcome(f"{row.name} in {dtype}", lambda row=row: _row(backend, row, dtype))  # noqa: B023


def _outcome(name: str, check: Any) -> Iterator[str]:
    """The first violation, because one mistake shows in many rows; an exception is one."""
    try:
        yield from (f"{name}: {line}" for line in list(check())[:1])
    except Exception as error:  # the adapter is not ours, and the other rows are to run
        yield f"{name}: {raised(error)}"


@contextmanager
def _registered(backend: Backend) -> Iterator[None]:
    """The backend as the first one that is asked for its arrays, if it is not found by itself."""
    found = dispatch.backend_of(backend.asarray(np.zeros(1, np.float32)))
    if found is not None and found[1] is backend:
        yield
        return
    name, before, at_once = "seqloss_backend_on_trial", dict(dispatch._adapters), dispatch._asked_at_once
    sys.modules[name] = backend  # type: ignore[assignment]  # anything with the functions as attributes
    dispatch._adapters.clear()
    dispatch._adapters.update({name: name, **before})
    dispatch._asked_at_once = frozenset()
    try:
        yield
    finally:
        dispatch._adapters.clear()
        dispatch._adapters.update(before)
        dispatch._asked_at_once = at_once
        del sys.modules[name]


# --- the sequence loss -----------------------------------------------------------------------------------------------


def _case(backend: Backend, case: Case, dtype: str) -> Iterator[str]:
    """The loss, and loss and gradients as they are returned and as the framework differentiates."""
    arrays, compute = case.build(), compute_dtype(dtype)
    given = [(representable(arrays.logits, dtype), dtype), (arrays.targets, None)]
    if arrays.weights is not None:
        own = case.weights_dtype or dtype
        given.append(
            (arrays.weights.astype(own), None) if case.weights_dtype else (representable(arrays.weights, own), own)
        )
    host = [x for x, _ in given]
    native = [backend.asarray(x) if kind is None else placed(backend, x, kind) for x, kind in given]
    weights = (host[2] if len(host) > 2 else np.ones(host[1].shape)).astype(compute)
    shape = oracle.sequence_loss(host[0], host[1], weights, **case.flags).loss.shape
    g = None if shape == () else np.linspace(0.5, 2, int(np.prod(shape))).reshape(shape).astype(compute)
    expected = oracle.sequence_loss(host[0], host[1], weights, **case.flags, cotangent=g)
    options: dict[str, Any] = {**case.flags, "check_labels": case.check_labels}
    loss = seqloss.sequence_loss(*native, **options)
    bound = tolerances.token_bound(host[0])
    worst = np.asarray(bound.max(initial=tolerances.TIGHT_ULPS))

    def right(what: str, got: Array, exact: Array, bound: Array, scale: Array, own: str) -> Iterator[str]:
        yield from form(backend, what, got, exact.shape, own)
        yield from values(backend, what, got, exact, bound, dtype, scale)

    yield from right("the loss", loss, expected.loss, worst, expected.loss_scale, compute)
    to_weights = len(native) > 2 and case.weights_dtype in (None, *tolerances.PRECISION)
    wrt: tuple[Any, ...] = ("logits", "weights") if to_weights else ("logits",)
    upstream = None if g is None else backend.asarray(g)
    explicit, gradients = seqloss.sequence_loss_and_grad(*native, **options, cotangent=upstream, wrt=wrt)
    yield from right("the loss beside its gradient", explicit, expected.loss, worst, expected.loss_scale, compute)
    of_framework = []
    for i in (0, 2)[: len(wrt)]:

        def of_one(x: Array, i: int = i) -> Any:
            changed = [*native[:i], x, *native[i + 1 :]]
            return seqloss.sequence_loss(*changed, **options)

        pair = backend.vjp(of_one, native[i])
        if pair is not None:
            of_framework.append(pair[1](backend.ones_like(pair[0], dtype=compute) if upstream is None else upstream))
    for which, (dlogits, *dweights) in (("returned", gradients), ("differentiated", of_framework or gradients)):
        rows = _undefined(backend, dlogits, expected.dlogits, host)
        yield from right(f"the {which} gradient of logits", dlogits, rows, bound[..., None], np.zeros(()), dtype)
        for x in dweights:
            own, scale = case.weights_dtype or dtype, expected.dweights_scale
            yield from right(f"the {which} gradient of weights", x, expected.dweights, worst, scale, own)


def _undefined(backend: Backend, got: Array, expected: Array, host: list[Array]) -> Array:
    """The expected gradient where a weight is NaN or infinite: there the rows of masked tokens may be all 0 or NaN."""
    if len(host) < 3 or np.isfinite(host[2]).all() or backend.shape(got) != expected.shape:
        return expected
    nan_rows = (host[2] == 0) & np.isnan(np.asarray(backend.to_numpy(got))).all(-1)
    return np.where(nan_rows[..., None], np.nan, expected)


# --- all other functions ---------------------------------------------------------------------------------------------


def _row(backend: Backend, row: Family, dtype: str) -> Iterator[str]:
    """The value, and the gradients if the framework differentiates."""
    compute = compute_dtype(dtype)
    arrays = row.arrays()
    host = [representable(x, dtype) if x.dtype == np.float64 else x for x in arrays]
    floats = [dtype if x.dtype == np.float64 else None for x in arrays]
    native = [
        backend.asarray(x) if own is None else placed(backend, x, own) for x, own in zip(host, floats, strict=True)
    ]
    own = {None: compute, "own": dtype}.get(row.result, row.result) or compute
    shape = np.shape(row.expected(*host).value)
    g = None
    if shape and row.wrt:
        g = representable(np.linspace(0.5, 2, int(np.prod(shape))).reshape(shape), own)
    expected = row.expected(*host, cotangent=g)
    value = row.call(*native)
    yield from _alike(backend, "the value", value, expected.value, expected.scale, own, expected, dtype)
    for i, (place, exact, scale) in enumerate(zip(row.wrt, expected.gradients, expected.scales, strict=True)):

        def of_one(x: Array, place: int = place) -> Any:
            return row.call(*native[:place], x, *native[place + 1 :])

        pair = backend.vjp(of_one, native[place])
        if pair is None:
            return
        pull = backend.ones_like(pair[0], dtype=own) if g is None else placed(backend, g, own)
        gradient, what = densified(pair[1](pull), backend), f"the gradient of {row.arguments[place]}"
        often = expected.roundings[i] if expected.roundings else 1
        yield from _alike(backend, what, gradient, exact, scale, backend.dtype(native[place]), expected, dtype, often)


def _alike(
    backend: Backend,
    what: str,
    got: Array,
    exact: Array,
    scale: Array,
    own: str,
    expected: Expected,
    dtype: str,
    roundings: float = 1,
) -> Iterator[str]:
    """``roundings``: how often a result in half precision may be rounded."""
    exact = np.asarray(exact)
    if "int" in own and backend.dtype(backend.asarray(np.zeros(1, own))) != own:
        own = own.replace("64", "32")  # JAX has no 64 bits unless it is told to
    yield from form(backend, what, got, exact.shape, own)
    if not backend.owns(got) or backend.shape(got) != exact.shape:
        return
    if own.startswith("int"):
        if not np.array_equal(backend.to_numpy(got), exact):
            yield f"{what} is {np.asarray(backend.to_numpy(got)).tolist()}, expected {exact.tolist()}"
        return
    bound = np.asarray(expected.bound)
    if own in ("float16", "bfloat16") and roundings > 1:
        # Units of the small dtype, in those of float32.
        bound = bound + roundings * tolerances.PRECISION[own].epsilon / tolerances.PRECISION["float32"].epsilon
    yield from values(backend, what, got, exact, bound, dtype, np.asarray(scale))
