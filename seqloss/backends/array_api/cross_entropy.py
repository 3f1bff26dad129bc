"""Array API: the statistics of tokens with one label, and their pullback. The formulas are in the contract."""

from typing import Any

from seqloss.backends.array_api import numbers, ops
from seqloss.backends.array_api.distribution import mean_below, shares
from seqloss.backends.array_api.numbers import INF, NAN
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array


def indices(logits: Array, targets: Array) -> tuple[Array, Array]:
    index = ops.astype(targets, "int64")
    legal = (index >= 0) & (index < logits.shape[-1])
    return ops.where(legal, index, 0), legal


def token_statistics(
    logits: Array, targets: Array, active: Array | None, prior: Array | None, spec: Spec
) -> Statistics:
    z = numbers.capped(logits, spec)
    xp = ops.namespace(z)
    label, legal = _label(z, targets)
    t = numbers.along_classes(ops.where(label, z, 0.0))
    others = ops.where(label, -INF, z)
    s = numbers.highest(others)
    # Where no other class is possible, all exponentials are 0 whatever is subtracted.
    below = ops.where(s == -INF, 0.0, s)
    gap, pivot = t - s, xp.maximum(s, t)
    rest, gone = numbers.total(xp.exp(others - below)), xp.exp(-xp.abs(gap))
    leads = gap >= 0
    odds, whole = rest * gone, rest + gone
    over = ops.where(leads, xp.log1p(odds), xp.log(whole))
    nll = ops.where(leads, over, over - gap)
    good = xp.isfinite(pivot) & ops.expand_dims(legal, axis=-1)
    lse = pivot + over if spec.lse else None
    unl, mass = unl_of(z, pivot, over, prior) if spec.unl else (None, None)
    divisor = ops.where(leads, 1.0 + odds, whole)
    return selected((nll, lse, unl, mass), (pivot, divisor), good, active)


def token_pullback(
    cotangents: Cotangents,
    logits: Array,
    targets: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
) -> Array:
    used = where_used(cotangents, active)
    if used is None:
        return zeros_like(logits)
    z = numbers.capped(logits, spec)
    xp = ops.namespace(z)
    label, _ = _label(z, targets)
    (a, b, c), share = of_classes(cotangents, z, prior)
    pivot, divisor = statistics.saved
    p = xp.exp(z - pivot) / divisor
    gradient = numbers.sum_of(a, b, c) * p
    rest = numbers.sum_of(b, c)
    at_label = 0.0 * p if rest is None else rest * p
    if a is not None:
        at_label = at_label + a * xp.expm1(-ops.expand_dims(statistics.nll, axis=-1))
    gradient = ops.where(label, at_label, gradient)
    if c is not None:
        gradient = gradient - c * share
    return ops.where(used, numbers.uncapped(gradient, logits, spec), 0.0)


# --- shared with soft labels -----------------------------------------------------------------------------------------


def unl_of(z: Array, pivot: Array, over: Array, prior: Array | None) -> tuple[Array, Array]:
    share, mass = shares(z, prior)
    return ops.where(mass == 0.0, 0.0, mean_below(z, pivot, share) + over), mass


def of_classes(cotangents: Cotangents, z: Array, prior: Array | None) -> tuple[list[Any], Any]:
    """The cotangents [..., 1], with 0 for unl at tokens without mass; and the shares of the prior, if any."""
    a, b, c = (None if g is None else ops.expand_dims(g, axis=-1) for g in cotangents)
    if c is None:
        return [a, b, None], None
    share, mass = shares(z, prior)
    return [a, b, ops.where(mass == 0.0, 0.0, c)], share


def selected(statistics: tuple[Any, ...], saved: tuple[Array, ...], good: Array, active: Array | None) -> Statistics:
    """Statistics [..., 1] as they are returned: NaN where they are not good (but the mass), 0 where a token is not
    active."""
    flat = tuple(good.shape)[:-1]
    kept = tuple(ops.where(good, x, NAN) for x in saved)

    def one(x: Array | None, otherwise: float = NAN) -> Array | None:
        if x is None:
            return None
        x = ops.reshape(ops.where(good, x, otherwise), flat)
        return x if active is None else ops.where(active, x, 0.0)

    nll, lse, unl = map(one, statistics[:3])
    mass = one(statistics[3], 0.0)
    return Statistics(nll, lse, unl, mass, kept)


def where_used(cotangents: Cotangents, active: Array | None) -> Array | None:
    """Tokens with a cotangent that is not 0, [..., 1]; None if there are no cotangents."""
    used = None
    for g in cotangents:
        if g is not None:
            used = g != 0.0 if used is None else used | (g != 0.0)
    if used is None:
        return None
    return ops.expand_dims(used if active is None else used & active, axis=-1)


def zeros_like(x: Array) -> Array:
    return ops.namespace(x).zeros_like(x)


def _label(z: Array, targets: Array) -> tuple[Array, Array]:
    """Where the label is, [..., classes], at the first class if the label is not a class; and whether it is one."""
    index, legal = indices(z, targets)
    return ops.arange(z.shape[-1], like=z) == ops.expand_dims(index, axis=-1), legal
