"""Faults of the kernels of one label: for each a name, and the function that has it."""

import numpy as np
from broken import right

from seqloss.testing import oracle_statistics


def statistics_with(**changes):
    """The statistics, changed by functions of (logits, targets, prior, spec, statistics)."""

    def kernel(logits, targets, active, prior, spec):
        got = right.token_statistics(logits, targets, active, prior, spec)
        with np.errstate(all="ignore"):
            new = {name: change(logits, targets, prior, spec, got) for name, change in changes.items()}
        return got._replace(**{name: x for name, x in new.items() if x is not None})

    return kernel


def given_other(change):
    """The right statistics of other arguments: a function of the right ones' tuple."""

    def kernel(*arguments):
        with np.errstate(all="ignore"):
            return right.token_statistics(*change(*arguments))

    return kernel


def wanted(change):
    """A change of a statistic where it was asked for and has a finite value, in its dtype."""

    def changed(name):
        def of(z, y, prior, spec, got):
            old = getattr(got, name)
            if old is None:
                return None
            return np.where(np.isfinite(old) & (old != 0), change(z, y, prior, spec, got), old).astype(old.dtype)

        return of

    return changed


def behind_cap(z, spec):
    return (
        z.astype(spec.dtype) if spec.softcap is None else (spec.softcap * np.tanh(z / spec.softcap)).astype(spec.dtype)
    )


def naive_nll(z, y, prior, spec, got):
    """lse - t, as everyone writes it."""
    z = behind_cap(z, spec)
    lse = np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1)) + z.max(-1)
    return lse - np.take_along_axis(z, np.clip(y, 0, z.shape[-1] - 1)[..., None].astype(int), -1)[..., 0]


def naive_unl(z, y, prior, spec, got):
    """lse less the mean, which NaN comes of where a class is impossible."""
    z = behind_cap(z, spec)
    share = np.full(z.shape[-1], 1 / z.shape[-1]) if prior is None else prior / prior.sum()
    lse = np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1)) + z.max(-1)
    return lse - (share * z).sum(-1)


def every_class(z, y, prior, spec, got):
    """The mass of all classes, possible or not."""
    if got.mass is None:
        return None
    whole = z.shape[-1] if prior is None else prior.sum()
    return np.where(got.nll == got.nll, whole, got.mass).astype(got.mass.dtype)


def unl_with(share):
    """unl as the mean over another distribution: a function of the possible classes, the prior, and the mass."""

    def changed(z, y, prior, spec, got):
        if got.unl is None:
            return None
        exact = oracle_statistics.of_tokens(z, y, prior, spec.softcap)
        capped, _ = oracle_statistics.capped(z, spec.softcap)
        weights = np.ones(z.shape[-1]) if prior is None else prior
        q = share(capped > -np.inf, weights, exact.mass[..., None])
        costs = np.where(q == 0, 0, q * (exact.lse[..., None] - capped))
        return np.where(got.unl == 0, np.where(np.isnan(q).all(-1), np.nan, 0), costs.sum(-1)).astype(got.unl.dtype)

    return changed


def naive_sums(logits, targets, active, prior, spec):
    """In float64 as NumPy adds up: the order of the classes shows."""
    got = right.token_statistics(logits, targets, active, prior, spec)
    if spec.dtype != "float64" or logits.shape[-1] < 100:
        return got
    z = logits.astype("float64")
    others = np.where(np.arange(z.shape[-1]) == targets[..., None], -np.inf, z)
    highest = others.max(-1)
    rest = np.add.reduce(np.exp(others - highest[..., None]), axis=-1)
    t = np.take_along_axis(z, targets[..., None], -1)[..., 0]
    whole = rest + np.exp(t - highest)
    nll = np.log(whole) - (t - highest)
    return got._replace(nll=nll, lse=None if got.lse is None else highest + np.log(whole))


def saves_softmax(logits, targets, active, prior, spec):
    got = right.token_statistics(logits, targets, active, prior, spec)
    return got._replace(saved=(got.nll, (np.exp(logits),)))


def in_float32(logits, targets, active, prior, spec):
    narrow = right.token_statistics(logits, targets, active, prior, spec._replace(dtype="float32"))
    return narrow._replace(
        **{n: getattr(narrow, n).astype(spec.dtype) for n in narrow._fields[:4] if getattr(narrow, n) is not None}
    )


def narrow_labels(z, y, *rest):
    """int8 cannot hold 200, and 200 becomes -56."""
    with np.errstate(all="ignore"):
        limit = np.array(z.shape[-1]).astype(y.dtype)
    return z, np.where((y >= 0) & (y < limit), y, -1), *rest


def narrow_indices(logits, targets):
    with np.errstate(all="ignore"):
        limit = np.array(logits.shape[-1]).astype(targets.dtype)
    legal = (targets >= 0) & (targets < limit)
    return np.where(legal, targets, 0).astype(int), legal


def in_place(z, y, active, prior, spec):
    z -= z.max(-1, keepdims=True)
    return z, y, active, prior, spec


# --- gradients -------------------------------------------------------------------------------------------------------


def pullback_with(change):
    """The gradient changed by a function of (gradient, cotangents, logits, targets, active, prior, spec)."""

    def pullback(cotangents, logits, targets, active, prior, statistics, spec):
        gradient = right.token_pullback(cotangents, logits, targets, active, prior, statistics, spec)
        with np.errstate(all="ignore"):
            return change(gradient, cotangents, logits, targets, active, prior, spec)

    return pullback


def pulled(change):
    """The right gradient for other arguments."""

    def pullback(*arguments):
        with np.errstate(all="ignore"):
            return right.token_pullback(*change(*arguments))

    return pullback


def p_minus_1(gradient, g, z, y, active, prior, spec):
    if g.nll is None or g.lse is not None or g.unl is not None or spec.softcap:
        return gradient
    p = np.exp(z - z.max(-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True)
    rows = ((p - (np.arange(z.shape[-1]) == y[..., None])) * g.nll[..., None]).astype(gradient.dtype)
    return np.where(np.isfinite(gradient) & (gradient != 0), rows, gradient)


def where_nll_has_a_cotangent(d, g, z, y, active, prior, spec):
    return d if g.nll is None else np.where(g.nll[..., None] == 0, 0, d).astype(d.dtype)


def where_they_do_not_cancel(d, g, *_):
    given = [x for x in g if x is not None]
    return d if not given else np.where(sum(given)[..., None] == 0, 0, d).astype(d.dtype)


def slope_with(slope):
    """Another derivative of the cap, a function of logit over cap, in place of 1 / cosh**2."""

    def changed(d, g, z, y, active, prior, spec):
        if not spec.softcap:
            return d
        u = z.astype(spec.dtype) / np.dtype(spec.dtype).type(spec.softcap)
        ratio = slope(u) * np.cosh(u.astype(np.longdouble)) ** 2
        return np.where(np.isinf(u) | (d == 0), d, d * ratio).astype(d.dtype)

    return changed


def uniform_everywhere(d, g, z, y, active, prior, spec):
    """q is not 0 where a class is impossible."""
    if g.unl is None or prior is not None:
        return d
    return np.where((z == -np.inf) & (g.unl != 0)[..., None] & (d == 0), -g.unl[..., None] / 6, d).astype(d.dtype)


def subnormal_kept(g, z, y, active, prior, statistics, spec):
    exact = oracle_statistics.of_tokens(z, y, prior, spec.softcap)
    rows, _ = oracle_statistics.pulled(exact, *g)
    return rows.astype(z.dtype)


def twice_rounded(d, g, z, y, active, prior, spec):
    if z.dtype != "float16" or spec.dtype != "float64":
        return d
    rows, _ = oracle_statistics.pulled(oracle_statistics.of_tokens(z, y, prior, spec.softcap), *g)
    return rows.astype("float32").astype("float16")


def overwritten(d, g, *_):
    for x in g:
        if x is not None:
            x *= 2
    return d


FAULTS = {
    "token_statistics naive": {"token_statistics": statistics_with(nll=wanted(naive_nll)("nll"))},
    "token_statistics widens": {
        "token_statistics": statistics_with(nll=lambda z, y, p, s, got: got.nll.astype("float64"))
    },
    "token_statistics narrows": {
        "token_statistics": statistics_with(nll=lambda z, y, p, s, got: got.nll.astype(z.dtype))
    },
    "token_statistics zero for bad labels": {
        "token_statistics": statistics_with(nll=lambda z, y, p, s, got: np.nan_to_num(got.nll, posinf=np.inf))
    },
    "token_statistics finite for an impossible label": {
        "token_statistics": statistics_with(nll=lambda z, y, p, s, got: np.where(np.isinf(got.nll), 0, got.nll))
    },
    "token_statistics wraps labels": {
        "token_statistics": given_other(lambda z, y, *rest: (z, y.astype(int) % z.shape[-1], *rest))
    },
    "token_statistics compares narrow labels": {"token_statistics": given_other(narrow_labels)},
    "token_statistics without active": {
        "token_statistics": given_other(lambda z, y, active, *rest: (z, y, None, *rest))
    },
    "token_statistics in place": {"token_statistics": given_other(in_place)},
    "token_statistics saves the softmax": {"token_statistics": saves_softmax},
    "token_statistics without a tuple of what is saved": {
        "token_statistics": statistics_with(saved=lambda z, y, p, s, got: got.nll)
    },
    "token_statistics in float32 where float64 is asked for": {"token_statistics": in_float32},
    "token_statistics in the order of the classes": {"token_statistics": naive_sums},
    "token_statistics always has lse": {
        "token_statistics": statistics_with(lse=lambda z, y, p, s, got: got.nll if got.lse is None else got.lse)
    },
    "token_statistics always has unl and mass": {
        "token_statistics": given_other(lambda z, y, active, p, spec: (z, y, active, p, spec._replace(unl=True)))
    },
    "token_statistics without a mass of bad rows": {
        "token_statistics": statistics_with(
            mass=wanted(lambda z, y, p, s, got: np.where(np.isnan(got.nll), np.nan, got.mass))("mass")
        )
    },
    "token_statistics never has lse": {
        "token_statistics": given_other(lambda z, y, active, p, spec: (z, y, active, p, spec._replace(lse=False)))
    },
    "token_statistics has lse of the others alone": {
        "token_statistics": statistics_with(
            lse=wanted(lambda z, y, p, s, got: got.lse + np.log1p(-np.exp(-got.nll)))("lse")
        )
    },
    "token_statistics has lse below the largest logit": {
        "token_statistics": statistics_with(
            lse=wanted(lambda z, y, p, s, got: got.lse - behind_cap(z, s).max(-1))("lse")
        )
    },
    "token_statistics has unl with 0 times infinity": {
        "token_statistics": statistics_with(unl=wanted(naive_unl)("unl"))
    },
    "token_statistics has unl without the prior": {
        "token_statistics": statistics_with(
            unl=unl_with(lambda possible, prior, mass: possible / possible.sum(-1, keepdims=True))
        )
    },
    "token_statistics has unl of a prior that does not add up to 1": {
        "token_statistics": statistics_with(unl=unl_with(lambda possible, prior, mass: possible * prior))
    },
    "token_statistics has unl of a prior on impossible classes": {
        "token_statistics": statistics_with(
            unl=unl_with(lambda possible, prior, mass: np.where(possible, prior / prior.sum(), 0))
        )
    },
    "token_statistics has unl NaN without mass": {
        "token_statistics": statistics_with(
            unl=unl_with(lambda possible, prior, mass: np.where(possible, prior, 0) / np.where(mass == 0, np.nan, mass))
        )
    },
    "token_statistics has the mass of all classes": {"token_statistics": statistics_with(mass=every_class)},
    "token_statistics without the mass": {
        "token_statistics": lambda *a: right.token_statistics(*a)._replace(mass=None)
    },
    "token_statistics without the cap": {
        "token_statistics": given_other(lambda z, y, a, p, spec: (z, y, a, p, spec._replace(softcap=None)))
    },
    "token_statistics with a cap on -infinity": {
        "token_statistics": given_other(
            lambda z, y, a, p, s: (np.where(z == -np.inf, -60000, z).astype(z.dtype) if s.softcap else z, y, a, p, s)
        )
    },
    "token_statistics with a cap on infinity": {
        "token_statistics": given_other(
            lambda z, y, a, p, s: (np.where(z == np.inf, 60000, z).astype(z.dtype) if s.softcap else z, y, a, p, s)
        )
    },
    "token_pullback p - 1": {"token_pullback": pullback_with(p_minus_1)},
    "token_pullback in the compute dtype": {"token_pullback": pullback_with(lambda d, *rest: d.astype(rest[-1].dtype))},
    "token_pullback without active": {"token_pullback": pulled(lambda g, z, y, active, *rest: (g, z, y, None, *rest))},
    "token_pullback 0 times NaN": {
        "token_pullback": pullback_with(lambda d, g, z, *_: d + (0 * z.sum(-1, keepdims=True)).astype(d.dtype))
    },
    "token_pullback zero for bad labels": {"token_pullback": pullback_with(lambda d, *_: np.nan_to_num(d))},
    "token_pullback without the cotangent": {
        "token_pullback": pulled(
            lambda g, *rest: (type(g)(*(None if x is None else (x != 0).astype(x.dtype) for x in g)), *rest)
        )
    },
    "token_pullback without that of lse": {"token_pullback": pulled(lambda g, *rest: (g._replace(lse=None), *rest))},
    "token_pullback without that of unl": {"token_pullback": pulled(lambda g, *rest: (g._replace(unl=None), *rest))},
    "token_pullback where nll has a cotangent": {"token_pullback": pullback_with(where_nll_has_a_cotangent)},
    "token_pullback where cotangents do not cancel": {"token_pullback": pullback_with(where_they_do_not_cancel)},
    "token_pullback needs a cotangent of nll": {
        "token_pullback": pullback_with(lambda d, g, *_: d if g.nll is not None else None)
    },
    "token_pullback without the prior": {
        "token_pullback": pulled(lambda g, z, y, a, prior, *rest: (g, z, y, a, None, *rest))
    },
    "token_pullback of an impossible class": {"token_pullback": pullback_with(uniform_everywhere)},
    "token_pullback without the cap": {"token_pullback": pulled(lambda *a: (*a[:-1], a[-1]._replace(softcap=None)))},
    "token_pullback without the derivative of the cap": {"token_pullback": pullback_with(slope_with(np.ones_like))},
    "token_pullback with 1 - tanh**2": {
        "token_pullback": pullback_with(slope_with(lambda u: (1 - np.tanh(u) ** 2).astype(u.dtype)))
    },
    "token_pullback keeps subnormal numbers": {"token_pullback": subnormal_kept},
    "token_pullback rounds twice": {"token_pullback": pullback_with(twice_rounded)},
    "token_pullback in place": {"token_pullback": pullback_with(overwritten)},
    "token_pullback in float32 where float64 is asked for": {
        "token_pullback": pullback_with(
            lambda d, *rest: (d * (1 + 2.0**-22)).astype(d.dtype) if rest[-1].dtype != d.dtype else d
        )
    },
    "indices in the dtype of the labels": {"indices": narrow_indices},
    "is_highest with all that are equal": {
        "is_highest": lambda z, y: (
            right.indices(z, y)[1] & (np.take_along_axis(z, right.indices(z, y)[0][..., None], -1)[..., 0] == z.max(-1))
        )
    },
    "is_highest but for NaN": {"is_highest": lambda z, y: right.indices(z, y)[1] & (np.nan_to_num(z).argmax(-1) == y)},
    "is_highest of the nearest class": {
        "is_highest": lambda z, y: right.is_highest(z, np.clip(y, 0, z.shape[-1] - 1).astype(y.dtype))
    },
    "indices that wrap": {"indices": lambda z, y: (y.astype(int) % z.shape[-1], right.indices(z, y)[1])},
}
