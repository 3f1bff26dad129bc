"""Array API: the statistics of tokens with soft labels, and their pullback. The formulas are in the contract."""

from seqloss.backends.array_api import numbers, ops
from seqloss.backends.array_api.cross_entropy import of_classes, selected, unl_of, where_used, zeros_like
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array


def label_statistics(logits: Array, labels: Array, active: Array | None, prior: Array | None, spec: Spec) -> Statistics:
    z, labels = numbers.capped(logits, spec), ops.astype(labels, spec.dtype)
    xp = ops.namespace(z)
    m = numbers.highest(z)
    rest = numbers.total(ops.where(_first(z), 0.0, xp.exp(z - m)))
    over = xp.log1p(rest)
    # A class with logit -infinity and label 0 costs nothing: 0 times infinity is 0 here.
    nll = numbers.along_classes(ops.where(labels == 0.0, 0.0, labels * ((m - z) + over)))
    lse = m + over if spec.lse else None
    unl, mass = unl_of(z, m, over, prior) if spec.unl else (None, None)
    return selected((nll, lse, unl, mass), (m, rest), xp.isfinite(m), active)


def label_pullback(
    cotangents: Cotangents,
    logits: Array,
    labels: Array,
    mass: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
    wrt_labels: bool,
) -> tuple[Array, Array | None]:
    used = where_used(cotangents, active)
    if used is None:
        return zeros_like(logits), zeros_like(labels) if wrt_labels else None
    z = numbers.capped(logits, spec)
    xp = ops.namespace(z)
    (a, b, c), share = of_classes(cotangents, z, prior)
    mass, (m, rest) = ops.expand_dims(mass, axis=-1), statistics.saved
    p = xp.exp(z - m) / (1.0 + rest)
    both = numbers.sum_of(b, c)
    gradient = numbers.sum_of(None if a is None else a * mass, b, c) * p
    at_highest = 0.0 * p if both is None else both / (1.0 + rest)
    if a is not None:
        y = ops.astype(labels, spec.dtype)
        gradient = gradient - a * y
        against = (mass - y) - mass * (rest / (1.0 + rest))
        around_1 = 2.0 * xp.abs(y) > xp.abs(mass)
        at_highest = at_highest + a * ops.where(around_1, against, mass / (1.0 + rest) - y)
    gradient = ops.where(_first(z), at_highest, gradient)
    if c is not None:
        gradient = gradient - c * share
    to_logits = ops.where(used, numbers.uncapped(gradient, logits, spec), 0.0)
    if not wrt_labels:
        return to_logits, None
    if a is None:
        return to_logits, zeros_like(labels)
    to_labels = ops.where(used & (a != 0.0), a * ((m - z) + xp.log1p(rest)), 0.0)
    return to_logits, numbers.narrowed(to_labels, ops.dtype(labels))


def _first(z: Array) -> Array:
    """Where the first class with the largest logit is."""
    xp = ops.namespace(z)
    return ops.arange(z.shape[-1], like=z) == xp.argmax(z, axis=-1, keepdims=True)
