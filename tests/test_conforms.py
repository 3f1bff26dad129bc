"""The check of backend adapters: the built-in ones pass, and one broken function is found and named."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest

from seqloss.backends import numpy as adapter
from seqloss.core import dispatch
from seqloss.core.protocol import Backend, TokenStatistics
from seqloss.testing import conformance
from seqloss.testing.conformance import NonConformingBackend, assert_conforms

PROTOCOL = {name for name, member in inspect.getmembers(Backend, inspect.isfunction) if not name.startswith("_")}


def replaced(**functions):
    """The NumPy adapter with other functions in place of its own."""
    copy = {name: getattr(adapter, name) for name in PROTOCOL}
    return SimpleNamespace(__name__="broken", **{**copy, **functions})


def violations(**functions):
    """The lines of the report, or none if the adapter passes."""
    try:
        assert_conforms(replaced(**functions))
    except NonConformingBackend as error:
        return str(error).splitlines()[1:]
    return []


def test_built_in_backends_conform(framework_name):
    assert_conforms(dispatch.load(framework_name))


def test_every_function_of_the_protocol_is_checked():
    assert set(conformance.CHECKS) == PROTOCOL
    assert violations() == []


@pytest.mark.parametrize("name", sorted(PROTOCOL))
def test_missing_function_is_found(name):
    assert f"  {name}: missing" in violations(**{name: None})


@pytest.mark.parametrize("name", sorted(PROTOCOL))
def test_wrong_signature_is_found(name):
    assert any(line.startswith(f"  {name}: must take (") for line in violations(**{name: lambda: None}))


@pytest.mark.parametrize("name", sorted(PROTOCOL))
def test_exception_is_a_violation_of_its_function(name):
    def raises(*_, **__):
        raise ZeroDivisionError("broken")

    assert f"  {name}: raised ZeroDivisionError: broken" in violations(**{name: raises})


def statistics_with(**fields):
    """The forward kernel with its statistics changed by functions of logits, targets, active and statistics."""

    def kernel(logits, targets, active):
        result = adapter.token_nll(logits, targets, active)
        return result._replace(**{name: f(logits, targets, active, result) for name, f in fields.items()})

    return kernel


def naive_nll(z, y, active, statistics):
    with np.errstate(all="ignore"):
        good = statistics.nll - statistics.nll == 0
        lse = np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1)) + z.max(-1)
        target = np.take_along_axis(z, np.clip(y, 0, z.shape[-1] - 1)[..., None].astype(int), -1)[..., 0]
        return np.where(good & (statistics.nll != 0), lse - target, statistics.nll).astype(statistics.nll.dtype)


def wrapped_labels(logits, targets, active):
    return adapter.token_nll(logits, targets.astype(int) % logits.shape[-1], active)


def labels_compared_narrow(logits, targets, active):
    """int8 cannot hold 200, and 200 becomes -56."""
    with np.errstate(all="ignore"):
        limit = np.array(logits.shape[-1]).astype(targets.dtype)
    legal = (targets >= 0) & (targets < limit)
    nll, shift, total = adapter.token_nll(logits, np.where(legal, targets, -1), active)
    return TokenStatistics(nll, shift, total)


def active_forgotten(logits, targets, active):
    return adapter.token_nll(logits, targets, None)


def in_place(logits, targets, active):
    logits -= logits.max(-1, keepdims=True)
    return adapter.token_nll(logits, targets, active)


def pullback_with(change):
    """The pullback with its gradient changed by a function of the gradient, cotangent, logits, targets and active."""

    def pullback(cotangent, logits, targets, active, statistics):
        gradient = adapter.token_nll_pullback(cotangent, logits, targets, active, statistics)
        return change(gradient, cotangent, logits, targets, active)

    return pullback


def p_minus_1(gradient, cotangent, z, y, active):
    with np.errstate(all="ignore"):
        p = np.exp(z - z.max(-1, keepdims=True))
        p = p / p.sum(-1, keepdims=True)
        rows = ((p - (np.arange(z.shape[-1]) == y[..., None])) * cotangent[..., None]).astype(gradient.dtype)
    return np.where(np.isfinite(gradient) & (gradient != 0), rows, gradient)


def pulled_without_mask(cotangent, logits, targets, active, statistics):
    return adapter.token_nll_pullback(cotangent, logits, targets, None, statistics)


def zero_times_nan(gradient, cotangent, z, y, active):
    with np.errstate(all="ignore"):
        return gradient + (0 * z.sum(-1, keepdims=True)).astype(gradient.dtype)


def cotangent_overwritten(cotangent, logits, targets, active, statistics):
    gradient = adapter.token_nll_pullback(cotangent, logits, targets, active, statistics)
    cotangent *= 2
    return gradient


def detached(function, x):
    return function(x), lambda cotangent: np.zeros_like(x)


def uniform(function, x):
    """As if the cotangent were all ones."""
    return x * x, lambda cotangent: 2 * x


BROKEN = {
    "owns everything": {"owns": lambda x: True},
    "owns by truth value": {"owns": lambda x: 1 if isinstance(x, np.ndarray) else 0},
    "dense form for dense arrays": {"dense_form": lambda x: "np.asarray({0})"},
    "shape as a list": {"shape": lambda x: list(x.shape)},
    "shape of rank 1 at least": {"shape": lambda x: x.shape or (1,)},
    "dtype as an object": {"dtype": lambda x: x.dtype},
    "dtype of another name": {"dtype": lambda x: f"np.{x.dtype.name}"},
    "device is the array": {"device": id},
    "readable is None": {"readable": lambda x, *, sync=False: None},
    "never readable": {"readable": lambda x, *, sync=False: False},
    "needs_grad is an array": {"needs_grad": lambda x: np.bool_(False)},
    "asarray widens": {"asarray": lambda x, *, like=None: np.asarray(x) + np.float64(0)},
    "asarray loses rank 0": {"asarray": lambda x, *, like=None: np.atleast_1d(x)},
    "asarray takes the dtype of like": {
        "asarray": lambda x, *, like=None: np.asarray(x) if like is None else np.asarray(x, like.dtype)
    },
    "to_numpy gives a list": {"to_numpy": lambda x: x.tolist()},
    "sizes as an array": {"sizes": lambda x: np.array(x.shape)},
    "sizes reversed": {"sizes": lambda x: x.shape[::-1]},
    "astype does nothing": {"astype": lambda x, dtype: x},
    "arange from 1": {"arange": lambda stop, *, like: np.arange(1, stop + 1)},
    "arange in floats": {"arange": lambda stop, *, like: np.arange(stop, dtype=like.dtype)},
    "arange unsigned": {"arange": lambda stop, *, like: np.arange(stop, dtype="uint32")},
    "ones_like keeps the dtype": {"ones_like": lambda x, *, dtype: np.ones_like(x)},
    "reshape in another order": {"reshape": lambda x, shape: np.reshape(x, shape, order="F")},
    "expand_dims at the end": {"expand_dims": lambda x, *, axis: x[..., None]},
    "where swapped": {"where": lambda condition, x1, x2: np.where(condition, x2, x1)},
    "where widens": {"where": lambda condition, x1, x2: np.where(condition, np.asarray(x1), np.asarray(x2))},
    "where multiplies": {"where": lambda condition, x1, x2: x1 * condition + x2 * ~condition},
    "where needs equal shapes": {"where": lambda condition, x1, x2: np.where(condition.reshape(2, -1), x1, x2)},
    "isfinite is not isnan": {"isfinite": lambda x: ~np.isnan(x)},
    "sum keeps the axes": {"sum": lambda x, *, axis: np.sum(x, axis=axis, keepdims=True)},
    "sum over one axis": {"sum": lambda x, *, axis: np.sum(x, axis=axis[0])},
    "sum widens": {"sum": lambda x, *, axis: np.sum(x, axis=axis, dtype="float64")},
    "count_nonzero counts in half": {
        "count_nonzero": lambda x, *, axis: np.sum(x, axis=axis, dtype="float16").astype(np.int64)
    },
    "count_nonzero in floats": {"count_nonzero": lambda x, *, axis: np.sum(x, axis=axis, dtype="float32")},
    "all is any": {"all": lambda x, *, axis: np.any(x, axis=axis)},
    "all over everything": {"all": lambda x, *, axis: np.all(x)},
    "stop_gradient changes": {"stop_gradient": lambda x: x + 1},
    "scope is None": {"scope": lambda name: None},
    "scope warns": {"scope": lambda name: np.errstate(all="warn")},
    "with_rank flattens": {"with_rank": lambda x, rank: x.reshape(-1)},
    "sizes_agree without the arrays": {"sizes_agree": lambda arrays, message: np.bool_(True)},
    "sizes_agree loses arrays": {"sizes_agree": lambda arrays, message: (np.bool_(True), list(arrays[1:]))},
    "sizes_agree never agrees": {"sizes_agree": lambda arrays, message: (np.bool_(False), list(arrays))},
    "vjp of nothing": {"vjp": detached},
    "vjp without the cotangent": {"vjp": uniform},
    "fuse returns the residuals too": {"fuse": lambda plain, forward, pullback, arrays: forward(*arrays)},
    "fuse changes the value": {"fuse": lambda plain, forward, pullback, arrays: -plain(*arrays)},
    "token_nll naive": {"token_nll": statistics_with(nll=naive_nll)},
    "token_nll widens": {"token_nll": statistics_with(nll=lambda z, y, a, s: s.nll.astype("float64"))},
    "token_nll narrows": {"token_nll": statistics_with(shift=lambda z, y, a, s: s.shift.astype(z.dtype))},
    "token_nll zero for bad labels": {"token_nll": statistics_with(nll=lambda z, y, a, s: np.nan_to_num(s.nll))},
    "token_nll wraps labels": {"token_nll": wrapped_labels},
    "token_nll compares narrow labels": {"token_nll": labels_compared_narrow},
    "token_nll without active": {"token_nll": active_forgotten},
    "token_nll in place": {"token_nll": in_place},
    "token_nll_pullback p - 1": {"token_nll_pullback": pullback_with(p_minus_1)},
    "token_nll_pullback in the compute dtype": {
        "token_nll_pullback": pullback_with(lambda d, g, *_: d.astype(g.dtype))
    },
    "token_nll_pullback without active": {"token_nll_pullback": pulled_without_mask},
    "token_nll_pullback 0 times NaN": {"token_nll_pullback": pullback_with(zero_times_nan)},
    "token_nll_pullback zero for bad labels": {"token_nll_pullback": pullback_with(lambda d, *_: np.nan_to_num(d))},
    "token_nll_pullback without the cotangent": {
        "token_nll_pullback": lambda g, *rest: adapter.token_nll_pullback((g != 0).astype(g.dtype), *rest)
    },
    "token_nll_pullback in place": {"token_nll_pullback": cotangent_overwritten},
    "differentiable_token_nll without active": {
        "differentiable_token_nll": lambda z, y, active: adapter.differentiable_token_nll(z, y, None)
    },
    "differentiable_token_nll returns the statistics": {"differentiable_token_nll": adapter.token_nll},
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_function_is_named(fault):
    (name,) = BROKEN[fault]
    lines = violations(**BROKEN[fault])
    assert any(line.startswith(f"  {name}: ") for line in lines), lines


def test_every_function_has_a_fault_in_the_table():
    assert {name for fault in BROKEN.values() for name in fault} == PROTOCOL


@pytest.mark.parametrize("name", ["differentiable_token_nll", "fuse"])
def test_lost_derivative_is_found(framework_name, name):
    """In a framework that differentiates the value alone is not enough."""
    backend = dispatch.load(framework_name)
    functions = {name: getattr(backend, name) for name in PROTOCOL}
    functions[name] = lambda *arguments: backend.stop_gradient(getattr(backend, name)(*arguments))
    if backend.vjp(lambda x: x, backend.asarray(np.zeros(2, "float32"))) is None:
        functions["vjp"] = detached  # the same seen from NumPy, which has no derivatives to lose
    with pytest.raises(NonConformingBackend, match=rf"  {name}: (.* the (gradient|cotangent of x) is|raised)"):
        assert_conforms(SimpleNamespace(__name__="detached", **functions))


def test_all_violations_are_listed():
    lines = violations(expand_dims=lambda x, *, axis: x, isfinite=np.isnan, scope=None)
    assert {line.split(":")[0].strip() for line in lines} >= {"expand_dims", "isfinite", "scope"}


def test_report_names_the_backend():
    with pytest.raises(NonConformingBackend, match=r"^broken does not conform to the backend protocol:\n"):
        assert_conforms(replaced(isfinite=np.isnan))
