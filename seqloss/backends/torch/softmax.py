"""PyTorch: the statistics of soft labels and their pullback. The formulas are in ``seqloss.core.contract``.

Both are differentiable by themselves: second derivatives, and exported programs, go through the operations written
here. So no NaN may enter an operation whose result is thrown away.
"""

import torch

from seqloss.backends.torch import distribution
from seqloss.backends.torch.blocks import counted, is_target
from seqloss.backends.torch.mesh import see_whole_rows
from seqloss.backends.torch.numbers import (
    capped,
    exp_of_difference,
    is_infinite,
    levelled,
    narrowed,
    slope_of_cap,
    sum_of_classes,
    sum_of_terms,
    widened,
)
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array


def label_statistics(logits: Array, labels: Array, active: Array | None, prior: Array | None, spec: Spec) -> Statistics:
    see_whole_rows(logits)
    x, labels = widened(logits, spec.dtype), widened(labels, spec.dtype)
    bad = ~torch.isfinite(x.detach().amax(-1))
    mass = distribution.mass(x, prior) if spec.unl else None
    # A row without a loss becomes NaN or 0 at the end.
    x = torch.where(bad.unsqueeze(-1), 0.0, x)
    if active is not None:
        labels = torch.where(active.unsqueeze(-1), labels, 0.0)
    index = x.argmax(-1, keepdim=True)
    top = x.gather(-1, index).squeeze(-1)
    z, highest = levelled(capped(x, spec.softcap), x, top, spec.softcap), capped(top, spec.softcap)
    column = highest.unsqueeze(-1)
    others = torch.where(is_target(z, index.squeeze(-1)), 0.0, exp_of_difference(z, column))
    rest = sum_of_terms(others, bad)
    distance = torch.log1p(rest)
    # A class with logit -infinity and label 0 costs nothing: 0 times infinity is 0 here.
    possible = torch.where((labels == 0) & is_infinite(column - z), column, z)
    nll = sum_of_classes(labels * ((column - possible) + distance.unsqueeze(-1)))
    lse, unl = highest + distance if spec.lse else None, None
    if mass is not None:
        unl = torch.where(mass == 0, 0.0, distribution.spread(z, highest, prior, mass) + distance)
    nll, lse, unl = (None if a is None else torch.where(bad, torch.nan, a) for a in (nll, lse, unl))
    if active is not None:
        nll, lse, unl, mass = (None if a is None else a.masked_fill(~active, 0.0) for a in (nll, lse, unl, mass))
    return Statistics(nll, lse, unl, mass, (highest, torch.where(bad, torch.nan, rest)))


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
    if cotangents.nll is None and cotangents.lse is None and cotangents.unl is None:
        return torch.zeros_like(logits), torch.zeros_like(labels) if wrt_labels else None
    cotangents, is_zero = counted(cotangents, active)
    highest, rest = statistics.saved
    # Only rows that are not finite: for the others d/dcotangent is needed at cotangent 0 too.
    replaced = is_zero & torch.isnan(rest)
    highest, rest = (a.masked_fill(replaced, 0.0).unsqueeze(-1) for a in (highest, rest))
    x = torch.where(replaced.unsqueeze(-1), 0.0, widened(logits, spec.dtype))
    index = x.argmax(-1, keepdim=True)
    z = levelled(capped(x, spec.softcap), x, x.gather(-1, index).squeeze(-1), spec.softcap)
    a, p = cotangents.nll, exp_of_difference(z, highest) / (1 + rest)
    gradient = None
    if a is not None:
        a, mass = a.unsqueeze(-1), mass.unsqueeze(-1)
        y, mass = (torch.where((a == 0) & ~torch.isfinite(w), 0.0, w) for w in (widened(labels, spec.dtype), mass))
        own, whole = y.gather(-1, index), 1 + rest
        against = (mass - own) - mass * (rest / whole)
        at_highest = torch.where(2 * own.abs() > mass.abs(), against, mass * (1 / whole) - own)
        gradient = a * torch.where(is_target(z, index.squeeze(-1)), at_highest, mass * p - y)
    others = _of_others(cotangents, z, p, prior, statistics.mass)
    if others is not None:
        gradient = others if gradient is None else gradient + others
    to_logits = narrowed(gradient if spec.softcap is None else gradient * slope_of_cap(x, spec.softcap), logits.dtype)
    if not wrt_labels or a is None:
        return to_logits, torch.zeros_like(labels) if wrt_labels else None
    # A class with logit -infinity has an infinite cost, which 0 must remove as well.
    possible = torch.where((a == 0) & is_infinite(highest - z), highest, z)
    return to_logits, narrowed(a * ((highest - possible) + torch.log1p(rest)), labels.dtype)


def _of_others(cotangents: Cotangents, z: Array, p: Array, prior: Array | None, mass: Array | None) -> Array | None:
    """The gradient of lse and unl."""
    _, b, c = cotangents
    if c is None:
        return None if b is None else b.unsqueeze(-1) * p
    c, share = distribution.coefficient(c, mass)
    return (c if b is None else b + c).unsqueeze(-1) * p - distribution.part(z, prior, share)
