"""PyTorch: the statistics of tokens and their pullback. The formulas are in ``seqloss.core.contract``.

Eager arrays on the CPU do not come here but to NumPy's kernel (see ``seqloss.backends.on_numpy``), unless second
derivatives are wanted. What is here serves other devices; ``blocks`` has the form for compilers and transformations.
"""

import torch

from seqloss.backends.torch import blocks, distribution
from seqloss.backends.torch.mesh import is_distributed, see_whole_rows
from seqloss.backends.torch.numbers import capped, grid, narrowed, slope_of_cap, widened
from seqloss.backends.torch.ops import is_differentiated, is_tracing
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array


def indices(logits: Array, targets: Array) -> tuple[Array, Array]:
    y = targets.to(torch.int64)
    legal = (y >= 0) & (y < logits.shape[-1])
    return torch.where(legal, y, 0), legal


def is_highest(logits: Array, targets: Array) -> Array:
    see_whole_rows(logits)
    index, legal = indices(logits, targets)
    highest, first = logits.max(-1)  # NaN is higher than all
    return legal & (first == index) & (highest == highest)


def token_statistics(
    logits: Array, targets: Array, active: Array | None, prior: Array | None, spec: Spec
) -> Statistics:
    see_whole_rows(logits)
    x, y = widened(logits, spec.dtype), targets.to(torch.int64)
    if is_tracing() or is_differentiated(logits):
        return blocks.token_statistics(x, y, active, prior, spec)
    z = capped(x, spec.softcap)
    index = y.clamp(0, z.shape[-1] - 1).unsqueeze(-1)
    t = z.gather(-1, index).squeeze(-1)
    if z.dtype is torch.float64:
        pivot, rest = _others_in_any_order(z, index, is_own=z is not logits and not spec.unl)
    else:
        pivot = z.amax(-1)
        rest = _scattered(torch.exp_(z - pivot.unsqueeze(-1)), index, 0.0).sum(-1)
    # Where no other class is possible, the pivot may be anything.
    highest = torch.where(rest == 0, t, torch.maximum(pivot, t))
    bad = (index.squeeze(-1) != y) | ~torch.isfinite(highest)
    mass = distribution.mass(z, prior) if spec.unl else None
    return blocks.finished(z, t, pivot, rest, bad, mass, active, prior, spec)


def token_pullback(
    cotangents: Cotangents,
    logits: Array,
    targets: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
) -> Array:
    given = [g for g in cotangents if g is not None]
    if not given:
        return torch.zeros_like(logits)
    x, y = widened(logits, spec.dtype), targets.to(torch.int64)
    if is_tracing() or is_differentiated(logits, *given) or not _are_alike(x, *given):
        gradient = blocks.token_pullback(cotangents, x, y, active, prior, statistics, spec)
        return narrowed(gradient, logits.dtype)
    cotangents, is_zero = blocks.counted(cotangents, active)
    highest, divisor = statistics.saved
    z, index = capped(x, spec.softcap), y.clamp(0, x.shape[-1] - 1)
    scale, at_target, share = blocks.rows(
        cotangents, z, index, prior, statistics.nll, highest, divisor, statistics.mass
    )
    gradient = torch.exp_(z - highest.unsqueeze(-1)).mul_(scale.unsqueeze(-1))
    if share is not None:
        gradient.sub_(distribution.part(z, prior, share))
    gradient = _scattered(gradient, index.unsqueeze(-1), at_target.unsqueeze(-1))
    if spec.softcap is not None:
        gradient.mul_(slope_of_cap(x, spec.softcap))
    return narrowed(gradient.masked_fill_(is_zero.unsqueeze(-1), 0.0), logits.dtype)


def _are_alike(*arrays: Array) -> bool:
    """Whether all are plain.

    With is_grads_batched a cotangent stands for many, and nothing in torch 2.13 tells but this.
    """
    keys = {torch._C._dispatch_keys(x).raw_repr() for x in arrays}
    return len(keys) == 1


def _others_in_any_order(z: Array, index: Array, is_own: bool) -> tuple[Array, Array]:
    """The largest of the other logits, and the sum of their exponentials; ``is_own`` if z may be written into."""
    others = _scattered(z, index, -torch.inf) if is_own else z.scatter(-1, index, -torch.inf)
    pivot = others.amax(-1)
    pivot = pivot.masked_fill_(pivot == -torch.inf, 0.0)
    others.sub_(pivot.unsqueeze(-1)).exp_()
    large = grid(z.shape[-1])
    coarse = (others + large).sub_(large)
    return pivot, coarse.sum(-1) + others.sub_(coarse).sum(-1)


def _scattered(x: Array, index: Array, value: Array | float) -> Array:
    """``x`` with values at the indices: itself, unless it is distributed.

    Where a rank has nothing of a tensor, torch 2.13 moves it for this, and refuses to do so in place.
    """
    if is_distributed(x):
        return x.scatter(-1, index, value)
    return x.scatter_(-1, index, value)
