"""The check of backend adapters: the built-in ones pass, and one broken function is found and named."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest

from seqloss.backends import numpy as adapter
from seqloss.core import dispatch
from seqloss.core.protocol import Backend, LabelStatistics, TokenStatistics
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
    assert any(line.startswith(f"  {name}: must take (") for line in violations(**{name: lambda *, wrong: None}))


@pytest.mark.parametrize("name", sorted(PROTOCOL))
def test_exception_is_a_violation_of_its_function(name):
    def raises(*_, **__):
        raise ZeroDivisionError("broken")

    assert f"  {name}: raised ZeroDivisionError: broken" in violations(**{name: raises})


def statistics_with(**fields):
    """The forward kernel with its statistics changed by functions of logits, targets, active and statistics."""

    def kernel(logits, targets, active, dtype):
        result = adapter.token_nll(logits, targets, active, dtype)
        return result._replace(**{name: f(logits, targets, active, result) for name, f in fields.items()})

    return kernel


def naive_nll(z, y, active, statistics):
    with np.errstate(all="ignore"):
        good = statistics.nll - statistics.nll == 0
        lse = np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1)) + z.max(-1)
        target = np.take_along_axis(z, np.clip(y, 0, z.shape[-1] - 1)[..., None].astype(int), -1)[..., 0]
        return np.where(good & (statistics.nll != 0), lse - target, statistics.nll).astype(statistics.nll.dtype)


def wrapped_labels(logits, targets, active, dtype):
    return adapter.token_nll(logits, targets.astype(int) % logits.shape[-1], active, dtype)


def labels_compared_narrow(logits, targets, active, dtype):
    """int8 cannot hold 200, and 200 becomes -56."""
    with np.errstate(all="ignore"):
        limit = np.array(logits.shape[-1]).astype(targets.dtype)
    legal = (targets >= 0) & (targets < limit)
    nll, shift, total = adapter.token_nll(logits, np.where(legal, targets, -1), active, dtype)
    return TokenStatistics(nll, shift, total)


def narrow_indices(logits, targets):
    with np.errstate(all="ignore"):
        limit = np.array(logits.shape[-1]).astype(targets.dtype)
    legal = (targets >= 0) & (targets < limit)
    return np.where(legal, targets, 0).astype(int), legal


def active_forgotten(logits, targets, active, dtype):
    return adapter.token_nll(logits, targets, None, dtype)


def in_place(logits, targets, active, dtype):
    logits -= logits.max(-1, keepdims=True)
    return adapter.token_nll(logits, targets, active, dtype)


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


def soft_with(change):
    """The forward kernel of soft labels with a function of logits, labels and statistics as its loss."""

    def kernel(logits, labels):
        statistics = adapter.softmax_nll(logits, labels)
        with np.errstate(all="ignore"):
            return statistics._replace(nll=change(logits, labels, statistics).astype(statistics.nll.dtype))

    return kernel


def soft_naive(z, y, statistics):
    """lse - z as everyone writes it: 0 where the model is sure."""
    lse = np.log(np.exp(z - statistics.shift[..., None]).sum(-1, keepdims=True)) + statistics.shift[..., None]
    return np.where(np.isfinite(statistics.nll), (y * (lse - z)).sum(-1), statistics.nll)


def soft_zero_times_infinity(z, y, statistics):
    costs = (statistics.shift[..., None] - z) + np.log1p(statistics.rest)[..., None]
    return (y * costs).sum(-1)


def soft_in_place(logits, labels):
    labels *= 1.5
    return adapter.softmax_nll(logits, labels)


def ties_counted_twice(logits, labels):
    """All highest classes left out of the rest, instead of the first alone."""
    shift = logits.max(-1, keepdims=True)
    with np.errstate(all="ignore"):
        ties = (logits == shift).sum(-1) - 1
        nll, shift, rest = adapter.softmax_nll(logits, labels)
        rest = (rest - np.where(np.isfinite(shift), ties, 0)).astype(rest.dtype)
        cost = np.log1p(rest) - np.log1p(adapter.softmax_nll(logits, labels).rest)
        return LabelStatistics((nll + labels.sum(-1) * cost).astype(nll.dtype), shift, rest)


def soft_pullback_with(change=lambda d, *_: d, to_labels=lambda d, *_: d, mass=lambda y, mass: mass):
    def pullback(cotangent, logits, labels, given_mass, statistics, wrt_labels):
        used = mass(labels, given_mass)
        d, e = adapter.softmax_nll_pullback(cotangent, logits, labels, used, statistics, wrt_labels)
        with np.errstate(all="ignore"):
            d = change(d, cotangent, logits, labels, used)
            return d, None if e is None else to_labels(e, cotangent, logits)

    return pullback


def soft_p_minus_y(d, g, z, y, mass):
    p = np.exp(z - z.max(-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True)
    naive = (g[..., None] * (mass[..., None] * p - y)).astype(d.dtype)
    return np.where(np.isfinite(d) & (d != 0), naive, d)


def sigmoid_with(**functions):
    """The forward kernel of independent classes in a formula that cancels or forgets something."""

    def kernel(logits, labels, pos_weight):
        right = adapter.sigmoid_nll(logits, labels, pos_weight)
        with np.errstate(all="ignore"):
            x, q = logits.astype(right.dtype), 1 if pos_weight is None else pos_weight
            return functions["nll"](x, labels, q, right).astype(right.dtype)

    return kernel


def sigmoid_of_tensorflow(x, y, q, right):
    """(1 - y) x + (1 + (q - 1) y) softplus(-x): cancels where the model is right and sure."""
    tail = np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0)
    return np.where(np.isfinite(x), (1 - y) * x + (1 + (q - 1) * y) * tail, right)


def binary_pullback_with(**functions):
    """The pullback with functions of (gradient, cotangent, logits, labels) for the three gradients."""

    def pullback(cotangent, logits, labels, pos_weight, wrt_labels):
        results = adapter.sigmoid_nll_pullback(cotangent, logits, labels, pos_weight, wrt_labels)
        with np.errstate(all="ignore"):
            return tuple(
                d if d is None or name not in functions else functions[name](d, cotangent, logits, labels)
                for name, d in zip(("logits", "labels", "pos_weight"), results, strict=True)
            )

    return pullback


def s_minus_y(d, g, x, y):
    naive = (g * (1 / (1 + np.exp(-x)) - y)).astype(d.dtype)
    return np.where(np.isfinite(d) & (d != 0) & (y == 1), naive, d)


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
    "nan_unless, the other way round": {"nan_unless": lambda condition, x: adapter.nan_unless(~condition, x)},
    "nan_unless in float32": {"nan_unless": lambda condition, x: np.where(condition, x, np.float32(np.nan))},
    "equal is identity": {"equal": lambda x, y: np.full(np.broadcast(x, y).shape, x is y)},
    "equal nan": {"equal": lambda x, y: np.isclose(x, y, 0, 0, equal_nan=True)},
    "isfinite is not isnan": {"isfinite": lambda x: ~np.isnan(x)},
    "residual in float32": {
        "residual": lambda x, w, center, counts, *, axis: np.sum(x * w - center * counts, axis=axis, dtype="float32")
    },
    "residual widens": {"residual": lambda x, *rest, axis: adapter.residual(x, *rest, axis=axis).astype("float64")},
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
    "permute_dims inverted": {"permute_dims": lambda x, axes: np.transpose(x, np.argsort(axes))},
    "concat along the first axis": {"concat": lambda arrays, *, axis: np.concatenate(arrays, 0)},
    "concat stacks": {"concat": lambda arrays, *, axis: np.stack(arrays, axis)},
    "concat in floats": {"concat": lambda arrays, *, axis: np.concatenate(arrays, axis, dtype="float32")},
    "log to the base 2": {"log": np.log2},
    "log of 1 + x": {"log": np.log1p},
    "log of |x|": {"log": lambda x: np.log(np.abs(x))},
    "take along the last axis": {"take": lambda x, indices: np.take(x, indices, -1, mode="clip")},
    "take sorts": {"take": lambda x, indices: x[np.sort(indices)]},
    "take of each once": {"take": lambda x, indices: x[np.unique(indices)]},
    "broadcast_like does nothing": {"broadcast_like": lambda x, like, message: (None, x)},
    "broadcast_like repeats": {"broadcast_like": lambda x, like, message: (None, np.resize(x, like.shape))},
    "broadcast_like in the dtype of like": {
        "broadcast_like": lambda x, like, message: (None, np.broadcast_to(x, like.shape).astype(like.dtype))
    },
    "broadcast_like never fits": {
        "broadcast_like": lambda x, like, message: (np.bool_(False), np.broadcast_to(x, like.shape))
    },
    "scope is None": {"scope": lambda name: None},
    "scope warns": {"scope": lambda name: np.errstate(all="warn")},
    "with_rank flattens": {"with_rank": lambda x, rank: x.reshape(-1)},
    "sizes_agree without the arrays": {"sizes_agree": lambda arrays, message: np.bool_(True)},
    "sizes_agree loses arrays": {"sizes_agree": lambda arrays, message: (np.bool_(True), list(arrays[1:]))},
    "sizes_agree never agrees": {"sizes_agree": lambda arrays, message: (np.bool_(False), list(arrays))},
    "vjp of nothing": {"vjp": detached},
    "vjp without the cotangent": {"vjp": uniform},
    "fuse returns the residuals too": {"fuse": lambda rule, arrays: rule.forward(*arrays)},
    "fuse changes the value": {"fuse": lambda rule, arrays: -rule.plain(*arrays)},
    "in_float64 returns the residuals too": {"in_float64": lambda rule, arrays: rule.forward(*arrays)},
    "in_float64 changes the value": {"in_float64": lambda rule, arrays: -rule.plain(*arrays)},
    "float64 is None": {"float64": lambda: None},
    "on_host is no bool": {"on_host": lambda arrays: None},
    "to_host loses the array": {"to_host": lambda x: x.tolist()},
    "from_host loses the numbers": {"from_host": lambda x, dtype, like: x * 0},
    "threads is none at all": {"threads": lambda: 0},
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
    "indices in the dtype of the labels": {"indices": narrow_indices},
    "indices that wrap": {"indices": lambda z, y: (y.astype(int) % z.shape[-1], adapter.indices(z, y)[1])},
    "differentiable_token_nll without active": {
        "differentiable_token_nll": lambda z, y, active: adapter.differentiable_token_nll(z, y, None)
    },
    "differentiable_token_nll returns the statistics": {
        "differentiable_token_nll": lambda z, y, active: adapter.token_nll(z, y, active, "float32")
    },
    "softmax_nll naive": {"softmax_nll": soft_with(soft_naive)},
    "softmax_nll 0 times infinity": {"softmax_nll": soft_with(soft_zero_times_infinity)},
    "softmax_nll of normalised labels": {
        "softmax_nll": soft_with(lambda z, y, s: np.where(y.sum(-1) == 0, s.nll, s.nll / y.sum(-1)))
    },
    "softmax_nll of labels of 0 or more": {"softmax_nll": lambda z, y: adapter.softmax_nll(z, np.maximum(y, 0))},
    "softmax_nll zero for NaN": {"softmax_nll": soft_with(lambda z, y, s: np.where(np.isnan(s.nll), 0, s.nll))},
    "softmax_nll in place": {"softmax_nll": soft_in_place},
    "softmax_nll leaves out all that tie": {"softmax_nll": ties_counted_twice},
    "softmax_nll narrows": {
        "softmax_nll": lambda z, y: LabelStatistics(*(x.astype(z.dtype) for x in adapter.softmax_nll(z, y)))
    },
    "softmax_nll_pullback p - y": {"softmax_nll_pullback": soft_pullback_with(soft_p_minus_y)},
    "softmax_nll_pullback with mass 1": {
        "softmax_nll_pullback": soft_pullback_with(mass=lambda y, mass: np.ones_like(mass))
    },
    "softmax_nll_pullback with the sum as mass": {
        "softmax_nll_pullback": soft_pullback_with(mass=lambda y, mass: y.sum(-1))
    },
    "softmax_nll_pullback 0 times NaN": {
        "softmax_nll_pullback": soft_pullback_with(lambda d, g, z, *_: d + (0 * z).astype(d.dtype))
    },
    "softmax_nll_pullback 0 times infinity for labels": {
        "softmax_nll_pullback": soft_pullback_with(to_labels=lambda e, g, z: e + (0 * z).astype(e.dtype))
    },
    "softmax_nll_pullback in the compute dtype": {
        "softmax_nll_pullback": soft_pullback_with(lambda d, g, *_: d.astype(g.dtype))
    },
    "softmax_nll_pullback of labels in half": {
        "softmax_nll_pullback": soft_pullback_with(to_labels=lambda e, g, z: e.astype(z.dtype))
    },
    "softmax_nll_pullback without the labels": {
        "softmax_nll_pullback": lambda g, z, y, m, s, wrt: (adapter.softmax_nll_pullback(g, z, y, m, s, wrt)[0], None)
    },
    "differentiable_softmax_nll returns the statistics": {
        "differentiable_softmax_nll": lambda logits, labels, mass: adapter.softmax_nll(logits, labels)
    },
    "differentiable_softmax_nll times the mass": {
        "differentiable_softmax_nll": lambda z, y, mass: mass * adapter.softmax_nll(z, y).nll
    },
    "sigmoid_nll as TensorFlow": {"sigmoid_nll": sigmoid_with(nll=sigmoid_of_tensorflow)},
    "sigmoid_nll without pos_weight": {"sigmoid_nll": lambda x, y, q: adapter.sigmoid_nll(x, y, None)},
    "sigmoid_nll with pos_weight on both": {"sigmoid_nll": sigmoid_with(nll=lambda x, y, q, right: right * q)},
    "sigmoid_nll zero for NaN": {"sigmoid_nll": sigmoid_with(nll=lambda x, y, q, r: np.where(np.isnan(x), 0, r))},
    "sigmoid_nll 0 times infinity": {"sigmoid_nll": sigmoid_with(nll=lambda x, y, q, right: right + 0 * x)},
    "sigmoid_nll of labels up to 1": {"sigmoid_nll": lambda x, y, q: adapter.sigmoid_nll(x, np.clip(y, 0, 1), q)},
    "sigmoid_nll widens": {"sigmoid_nll": lambda x, y, q: adapter.sigmoid_nll(x, y, q).astype("float64")},
    "sigmoid_nll_pullback s - y": {"sigmoid_nll_pullback": binary_pullback_with(logits=s_minus_y)},
    "sigmoid_nll_pullback 0 times NaN": {
        "sigmoid_nll_pullback": binary_pullback_with(logits=lambda d, g, x, y: d + (g * (x - x)).astype(d.dtype))
    },
    "sigmoid_nll_pullback of labels, 0 times infinity": {
        "sigmoid_nll_pullback": binary_pullback_with(labels=lambda d, g, x, y: d + (0 * x).astype(d.dtype))
    },
    "sigmoid_nll_pullback of labels without pos_weight": {
        "sigmoid_nll_pullback": binary_pullback_with(labels=lambda d, g, x, y: np.where(g == 0, 0, -g * x))
    },
    "sigmoid_nll_pullback of pos_weight without labels": {
        "sigmoid_nll_pullback": binary_pullback_with(
            pos_weight=lambda d, g, x, y: np.where((y == 0) | (g == 0), d, d / np.where(y == 0, 1, y)).astype(d.dtype)
        )
    },
    "sigmoid_nll_pullback in the compute dtype": {
        "sigmoid_nll_pullback": binary_pullback_with(logits=lambda d, g, x, y: d.astype(g.dtype))
    },
    "differentiable_sigmoid_nll without pos_weight": {
        "differentiable_sigmoid_nll": lambda x, y, q: adapter.sigmoid_nll(x, y, None)
    },
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_function_is_named(fault):
    (name,) = BROKEN[fault]
    lines = violations(**BROKEN[fault])
    assert any(line.startswith(f"  {name}: ") for line in lines), lines


def test_every_function_has_a_fault_in_the_table():
    assert {name for fault in BROKEN.values() for name in fault} == PROTOCOL


DIFFERENTIATED = (
    *("differentiable_token_nll", "differentiable_softmax_nll", "differentiable_sigmoid_nll"),
    *("fuse", "in_float64", "take", "broadcast_like"),
)


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_lost_derivative_is_found(framework_name, name, monkeypatch):
    """In a framework that differentiates the value alone is not enough."""
    # The checks of all other functions run in test_built_in_backends_conform, and JAX compiles them anew.
    monkeypatch.setattr(conformance, "CHECKS", {name: conformance.CHECKS[name]})
    backend = dispatch.load(framework_name)
    functions = {name: getattr(backend, name) for name in PROTOCOL}

    def detached_result(*arguments):
        result = getattr(backend, name)(*arguments)
        return (result[0], backend.stop_gradient(result[1])) if type(result) is tuple else backend.stop_gradient(result)

    functions[name] = detached_result
    if backend.vjp(lambda x: x, backend.asarray(np.zeros(2, "float32"))) is None:
        functions["vjp"] = detached  # the same seen from NumPy, which has no derivatives to lose
    with pytest.raises(NonConformingBackend, match=rf"  {name}: (.* the (gradient|cotangent)( of \w+)? is|raised)"):
        assert_conforms(SimpleNamespace(__name__="detached", **functions))


def test_all_violations_are_listed():
    lines = violations(expand_dims=lambda x, *, axis: x, isfinite=np.isnan, scope=None)
    assert {line.split(":")[0].strip() for line in lines} >= {"expand_dims", "isfinite", "scope"}


def test_report_names_the_backend():
    with pytest.raises(NonConformingBackend, match=r"^broken does not conform to the backend protocol:\n"):
        assert_conforms(replaced(isfinite=np.isnan))
