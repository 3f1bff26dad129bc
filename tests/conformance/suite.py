"""Running one declared case in one backend, mode and dtype, and judging the outcome."""

import functools
from collections import defaultdict
from importlib import metadata
from typing import NamedTuple

import choosing
import numpy as np
import pytest

import seqloss
from seqloss.testing import cases, frameworks, oracle, tolerances

_EXPORT = (
    "an exported program keeps the operations of the kernel and forgets its pullback: where the loss of a token is "
    "NaN or infinite, its gradient row is 0 instead of NaN"
)
XFAIL = {
    f"torch-export-{dtype}-{case}": _EXPORT
    for dtype in ("float32", "bfloat16")
    for case in (
        *("counted_nan_row", "counted_nan_at_target", "counted_nan_elsewhere", "counted_inf", "counted_inf_at_target"),
        *("counted_row_minus_inf", "counted_label_minus_1", "counted_label_too_large", "weights_one_inf_none"),
    )
} | {"torch-export-float32-label_policy": _EXPORT}
_EXPORT_PLAIN = (
    "an exported program keeps the operations of the kernel and forgets its pullback: p - y cancels where the model is "
    "sure, and the label of an impossible class has a finite gradient"
)
XFAIL |= {
    f"torch-export-{dtype}-softmax_with_logits-{family}": _EXPORT_PLAIN
    for dtype in ("float32", "bfloat16")
    for family in ("sure", "impossible")
}
XFAIL["torch-export-exact"] = (
    "an exported program keeps the operations of the exact loss and forgets its pullback: the loss is exact, but what "
    "autograd makes of the operations is rounded as autograd likes"
)
"""The only place for deviations: the identity of a case or of an invariant that fails, with the reason."""


def _is_old_torch():
    try:
        return tuple(map(int, metadata.version("torch").split(".")[:2])) < (2, 9)
    except metadata.PackageNotFoundError:
        return False


if _is_old_torch():
    XFAIL |= {
        f"torch-explicit-compile-custom_loss-{flags}": "torch.compile before 2.9 cannot trace torch.func.vjp over a "
        "function that holds an operation with a gradient of its own"
        for flags in ("average_both", "sum_time", "none")
    } | {
        f"torch-export-float32-{name}_unigram_candidate_sampler": "torch.export before 2.9 fails with an error of its "
        "own at NumPy arrays, before the refusal is reached"
        for name in ("fixed", "learned")
    }


class Outcome(NamedTuple):
    """What a backend returned, still as its own arrays; a gradient is None where there is none."""

    loss: object
    dlogits: object
    dweights: object


def pairs(driver):
    """Every (mode, dtype) of a framework."""
    for mode in (*driver.MODES, *driver.EXPLICIT):
        for dtype in driver.FEWER_DTYPES.get(mode, driver.DTYPES):
            yield mode, dtype


class Options(NamedTuple):
    """What of a case is fixed in a program; the rest are its arrays."""

    flags: tuple[tuple[str, bool], ...]
    check_labels: bool | None
    differentiable: bool


def options(case):
    arrays = case.build()
    differentiable = arrays.weights is not None and case.weights_dtype in (None, *tolerances.PRECISION)
    return Options(tuple(sorted(case.flags.items())), case.check_labels, differentiable)


@functools.cache
def groups():
    """The names of the cases by the program that they need: those of the same options, shapes and dtypes."""
    found = defaultdict(list)
    for case in cases.CASES:
        logits, _, weights = case.build()
        found[options(case), logits.shape, case.weights_dtype, weights is None].append(case.name)
    return list(found.values())


MANY = 5
"""Cases of one program that make it worth its compilation in every mode and dtype."""


@functools.cache
def choice(name, full=False):
    """The names of the cases of each (mode, dtype): those of the default run, or all."""
    driver, kinds = frameworks.load(name), {case.name: case.kind for case in cases.CASES}
    # Cases of one program stand beside each other, so that they meet in one worker.
    names = [case for group in groups() for case in group]
    shared = [case for group in groups() if len(group) >= MANY for case in group]
    every = list(pairs(driver))
    return dict.fromkeys(every, names) if full else choosing.chosen(driver, every, names, kinds.get, shared)


def declared(names, full=False):
    """Every (backend, mode, dtype, case) that has to pass: a choice of the product, or the full product."""
    by_name = {case.name: case for case in cases.CASES}
    for name in names:
        for pair, few in choice(name, full).items():
            for case in few:
                yield name, *pair, by_name[case]


def identity(name, mode, dtype, case):
    return f"{name}-{mode}-{dtype}-{case.name}"


def marks(identity):
    """The marks of a row of the suite: what stands in the table must fail, strictly."""
    return [pytest.mark.xfail(reason=XFAIL[identity], strict=True)] if identity in XFAIL else []


def cast(driver, case, dtype):
    """The arrays of a case in the framework, and as NumPy arrays with the values they have there."""
    arrays = case.build()
    weights_dtype = case.weights_dtype or dtype
    native = [driver.array(arrays.logits, dtype), driver.array(arrays.targets)]
    if arrays.weights is not None:
        native.append(driver.array(arrays.weights, weights_dtype))
    return native, [driver.to_numpy(x) for x in native]


def upstream(shape, dtype):
    """A cotangent that is not uniform, as a real one is not; None for a scalar loss."""
    if shape == ():
        return None
    return np.linspace(0.5, 2.0, int(np.prod(shape))).reshape(shape).astype(dtype)


def reference(host, case, compute):
    weights = host[2] if len(host) > 2 else np.ones(host[1].shape)
    weights = weights.astype(compute)
    shape = oracle.sequence_loss(host[0], host[1], weights, **case.flags).loss.shape
    cotangent = upstream(shape, compute)
    return oracle.sequence_loss(host[0], host[1], weights, **case.flags, cotangent=cotangent), cotangent


@functools.cache
def program(name, mode, given):
    """A way to run the loss, kept for all cases with the same options: ``run(arrays, cotangent)``."""
    driver, (flags, check_labels, differentiable) = frameworks.load(name), given
    fixed = {**dict(flags), "check_labels": check_labels}
    if mode not in driver.EXPLICIT:
        wrt = (0, 2) if differentiable else (0,)
        return {**driver.MODES, **driver.SETTINGS}[mode](lambda *arrays: seqloss.sequence_loss(*arrays, **fixed), wrt)
    wrt = ("logits", "weights") if differentiable else ("logits",)

    def explicit(cotangent, *arrays):
        return seqloss.sequence_loss_and_grad(*arrays, **fixed, cotangent=cotangent, wrt=wrt)

    prepared = driver.EXPLICIT[mode](explicit)
    return lambda arrays, cotangent: prepared(cotangent, *arrays)


def run(name, mode, dtype, case):
    """Value and gradients of a case, with the reference."""
    driver, given = frameworks.load(name), options(case)
    compute = "float64" if dtype == "float64" else "float32"
    with driver.precision(dtype), np.errstate(all="ignore"):
        native, host = cast(driver, case, dtype)
        expected, cotangent = reference(host, case, compute)
        g = None if cotangent is None else driver.array(cotangent)
        loss, gradients = program(name, mode, given)(native, g)
        dlogits, dweights = (*(gradients or (None,)), None)[:2]
        outcome = Outcome(loss, dlogits, dweights)
        check(driver, outcome, expected, native, host, compute, given.differentiable)


def check(driver, outcome, expected, native, host, compute, differentiable):
    """Type, device, shape and dtype first, then NaN places and exact zeros, then values."""
    logits = native[0]
    device = driver.device(logits)
    matches(driver, outcome.loss, expected.loss, expected.loss_scale, compute, device)
    if outcome.dlogits is not None:
        expected = expected._replace(dlogits=undefined(driver, outcome.dlogits, expected.dlogits, host))
        matches(driver, outcome.dlogits, expected.dlogits, 0.0, driver.dtype(logits), device)
    if outcome.dweights is not None:
        assert differentiable
        dtype = driver.dtype(native[2])
        matches(driver, outcome.dweights, expected.dweights, expected.dweights_scale, dtype, device)

    bound = tolerances.token_bound(host[0])
    worst = bound.max(initial=tolerances.TIGHT_ULPS)
    values(driver, outcome.loss, expected.loss, worst, expected.loss_scale, compute)
    if outcome.dlogits is not None:
        values(driver, outcome.dlogits, expected.dlogits, bound[..., None], 0.0, compute)
    if outcome.dweights is not None:
        values(driver, outcome.dweights, expected.dweights, worst, expected.dweights_scale, compute)


def undefined(driver, actual, expected, host):
    """The expected gradient where a weight is NaN or infinite: the rows of masked tokens may be all 0 or all NaN.

    The loss itself is NaN or infinite then. Their rows are 0 where the mask was known to the kernel, and NaN where
    0 * NaN was all that it saw.
    """
    if len(host) < 3 or np.isfinite(host[2]).all():
        return expected
    result = driver.to_numpy(actual)
    nan_rows = (host[2] == 0) & np.isnan(result).all(-1)
    return np.where(nan_rows[..., None], np.nan, expected)


def matches(driver, actual, expected, scale, dtype, device):
    assert driver.is_array(actual), type(actual)
    assert driver.device(actual) == device
    assert tuple(actual.shape) == expected.shape
    assert driver.dtype(actual) == dtype
    result = driver.to_numpy(actual)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected), "NaN places")
    # Zero because nothing was added up, not because summands cancelled.
    zero = (expected == 0) & (scale == 0)
    np.testing.assert_array_equal(result[zero], np.zeros(zero.sum()), "exact zeros")


def values(driver, actual, expected, bound, scale, compute):
    result = driver.to_numpy(actual)
    fraction = tolerances.excess(result, expected, driver.dtype(actual), bound, scale, compute)
    assert fraction.max(initial=0) <= 1, (
        f"{fraction.max():.3g} of the allowed distance at {np.unravel_index(fraction.argmax(), fraction.shape)}: "
        f"{result.reshape(-1)[fraction.argmax()]!r}, expected {expected.reshape(-1)[fraction.argmax()]!r}"
    )
