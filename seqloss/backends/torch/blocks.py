"""PyTorch: rows of logits as operations without side effects, for compilers and transformations.

A compiler makes one loop over the classes of each of the two functions. Both are differentiable by themselves too:
second derivatives go through them, and exported programs, which keep operations and forget pullbacks. So no NaN may
enter an operation whose result is thrown away.
"""

import torch

from seqloss.backends.torch import distribution, mesh
from seqloss.backends.torch.numbers import (
    capped,
    exact_exp_of_difference,
    exp_of_difference,
    levelled,
    one_less_exp_minus,
    slope_of_cap,
    sum_of_terms,
)
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array


def token_statistics(x: Array, y: Array, active: Array | None, prior: Array | None, spec: Spec) -> Statistics:
    """The statistics of logits in the compute dtype."""
    index = y.clamp(0, x.shape[-1] - 1)
    t = x.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    # With y where the pullback has index: a label that both make narrow would be stored in between (torch 2.13), by a
    # loop of its own, and the maximum and the sum would each read the logits from memory. A bad label may well be
    # wrapped.
    is_label = is_target(x, y)
    is_wide = x.dtype is torch.float64
    # Constants: what is added up does not depend on where it is counted from.
    pivot = (torch.where(is_label, -torch.inf, x.detach()) if is_wide else x.detach()).amax(-1)
    top = torch.maximum(pivot, t.detach()) if is_wide else pivot
    bad = (index != y) | ~torch.isfinite(top)
    mass = distribution.mass(x, prior) if spec.unl else None
    x, t = torch.where(bad.unsqueeze(-1), 0.0, x), torch.where(bad, 0.0, t)
    pivot = torch.where(bad | (pivot == -torch.inf), 0.0, pivot)
    z = levelled(capped(x, spec.softcap), x, top, spec.softcap)
    t, pivot = capped(t, spec.softcap), capped(pivot, spec.softcap)
    if is_wide:  # a label far above the pivot has no exponential
        others = exp_of_difference(torch.where(is_label, -torch.inf, z), pivot.unsqueeze(-1))
    else:
        others = torch.where(is_label, 0.0, exp_of_difference(z, pivot.unsqueeze(-1)))
    return finished(z, t, pivot, sum_of_terms(others, bad), bad, mass, active, prior, spec)


def finished(
    z: Array,
    t: Array,
    pivot: Array,
    rest: Array,
    bad: Array,
    mass: Array | None,
    active: Array | None,
    prior: Array | None,
    spec: Spec,
) -> Statistics:
    """The statistics, from the pivot and the sum of ``exp(z_j - pivot)`` over the other classes."""
    # Where no other class is possible, nothing is counted from the pivot, and it can be anything.
    pivot = torch.where(rest == 0, t, pivot)
    is_above = t >= pivot
    highest, lowest = torch.where(is_above, t, pivot), torch.where(is_above, pivot, t)
    small = exact_exp_of_difference(lowest, highest)
    odds, whole = rest * small, rest + small
    # Of the sum of all exponentials to the highest.
    distance = torch.where(is_above, torch.log1p(odds), torch.log(whole))
    unl = None
    if mass is not None:
        unl = torch.where(mass == 0, 0.0, distribution.spread(z, highest, prior, mass) + distance)
    lse = highest + distance if spec.lse else None
    # A constant where the label is the highest: programs of torch.export differentiate this, and would add its
    # derivatives 1 and -1 to those of the distance, which may be tiny.
    behind = torch.where(is_above, 0.0, pivot - t)
    nll, lse, unl = (None if a is None else torch.where(bad, torch.nan, a) for a in (distance + behind, lse, unl))
    if active is not None:
        nll, lse, unl, mass = (None if a is None else a.masked_fill(~active, 0.0) for a in (nll, lse, unl, mass))
    divisor = torch.where(bad, torch.nan, torch.where(is_above, 1 + odds, whole))
    return Statistics(nll, lse, unl, mass, (highest, divisor))


def token_pullback(
    cotangents: Cotangents,
    x: Array,
    y: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
) -> Array:
    """The gradient of the logits, in the compute dtype still."""
    cotangents, is_zero = counted(cotangents, active)
    highest, divisor = statistics.saved
    # Only rows that are not finite: for the others d/dcotangent is needed at cotangent 0 too.
    replaced = is_zero & torch.isnan(divisor)
    nll, highest = (a.masked_fill(replaced, 0.0) for a in (statistics.nll, highest))
    divisor = divisor.masked_fill(replaced, 1.0)
    x = torch.where(replaced.unsqueeze(-1), 0.0, x)
    z, index = capped(x, spec.softcap), y.clamp(0, x.shape[-1] - 1)
    scale, at_target, share = rows(cotangents, z, index, prior, nll, highest, divisor, statistics.mass)
    elsewhere = exp_of_difference(z, highest.unsqueeze(-1)) * scale.unsqueeze(-1)
    if share is not None:
        elsewhere = elsewhere - distribution.part(z, prior, share)
    gradient = torch.where(is_target(z, index), at_target.unsqueeze(-1), elsewhere)
    return gradient if spec.softcap is None else gradient * slope_of_cap(x, spec.softcap)


def counted(cotangents: Cotangents, active: Array | None) -> tuple[Cotangents, Array]:
    """Cotangents, of which those that do not count are 0; and where all are."""
    given = [None if g is None or active is None else g.masked_fill(~active, 0.0) for g in cotangents]
    cotangents = cotangents if active is None else Cotangents(*given)
    is_zero = None
    for g in cotangents:
        if g is not None:
            is_zero = (g == 0) if is_zero is None else is_zero & (g == 0)
    return cotangents, is_zero


def rows(
    cotangents: Cotangents,
    z: Array,
    index: Array,
    prior: Array | None,
    nll: Array,
    highest: Array,
    divisor: Array,
    mass: Array | None,
) -> tuple[Array, Array, Array | None]:
    """For each token: what exponentials are multiplied with, the gradient at its label, and what the prior is."""
    a, b, c = cotangents
    share = None
    if c is not None:
        c, share = distribution.coefficient(c, mass)
    plain = b if c is None else c if b is None else b + c
    if plain is None:
        return a / divisor, -(a * one_less_exp_minus(nll)), None
    t = z.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    at_target = plain * (exact_exp_of_difference(t, highest) / divisor)
    if share is not None:
        at_target = at_target - distribution.part_at(t, index, prior, share)
    if a is None:
        return plain / divisor, at_target, share
    return (a + plain) / divisor, at_target - a * one_less_exp_minus(nll), share


def is_target(z: Array, index: Array) -> Array:
    # Integers as narrow as float32 are vectorised as well as it is. A scatter would take an array of its own.
    classes = mesh.beside(z, torch.arange(z.shape[-1], dtype=torch.int32, device=z.device))
    return classes == index.to(torch.int32).unsqueeze(-1)
