"""PyTorch: rows of logits as operations without side effects, for compilers and transformations.

A compiler makes one loop over the classes of each of the two functions. Both are differentiable by themselves too:
second derivatives go through them, and exported programs, which keep operations and forget pullbacks. So no NaN may
enter an operation whose result is thrown away, and where the target is the largest, its own logit is the pivot.
"""

import torch

from seqloss.core.protocol import Array, TokenStatistics


def token_nll(z: Array, y: Array, active: Array | None) -> TokenStatistics:
    """The statistics of logits in the compute dtype."""
    index = y.clamp(0, z.shape[-1] - 1)
    highest = z.detach().amax(-1)
    bad = (index != y) | ~torch.isfinite(highest)
    z = torch.where(bad.unsqueeze(-1), 0.0, z)
    t = z.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    pivot = torch.where(t == highest, t, highest)
    # With y where the pullback has index: a label that both make narrow would be stored in between, by a loop of its
    # own, and the maximum and the sum would each read the logits from memory. A bad label may well be wrapped.
    others = torch.where(_is_target(z, y), 0.0, _exp(z, highest))
    # Compiled for the CPU, the sum adds up thousands of numbers one after the other.
    is_plain = torch.compiler.is_compiling() and z.device.type == "cpu"
    rest = others.sum(-1, dtype=torch.float64).to(z.dtype) if is_plain else others.sum(-1)
    # The factor is 1, and has the derivative that is missing where highest stands for the pivot.
    rest = torch.where(bad, torch.nan, rest * torch.exp(highest - pivot))
    gap = t - pivot
    nll = torch.log1p(rest + torch.expm1(gap)) - gap
    if active is not None:
        nll = nll.masked_fill(~active, 0.0)
    return TokenStatistics(nll, pivot, rest + torch.exp(gap))


def token_nll_pullback(
    cotangent: Array, z: Array, y: Array, active: Array | None, statistics: TokenStatistics
) -> Array:
    """The gradient of the logits, in the compute dtype still."""
    g = cotangent if active is None else cotangent.masked_fill(~active, 0.0)
    # Only rows that are not finite: for the others d/dcotangent counts at cotangent 0 too.
    nll, shift, total = statistics
    replaced = (g == 0) & torch.isnan(total)
    nll, shift, total = (
        nll.masked_fill(replaced, 0.0),
        shift.masked_fill(replaced, 0.0),
        total.masked_fill(replaced, 1.0),
    )
    z = torch.where(replaced.unsqueeze(-1), 0.0, z)
    at_target = -(g * _probability_of_others(nll)).unsqueeze(-1)
    elsewhere = _exp(z, shift) * (g / total).unsqueeze(-1)
    return torch.where(_is_target(z, y.clamp(0, z.shape[-1] - 1)), at_target, elsewhere)


def _probability_of_others(nll: Array) -> Array:
    """-expm1(-nll): where torch.compile makes vectors of the CPU, its expm1(x) is exp(x) - 1, and cancels."""
    half = 0.5 * nll.clamp(max=100.0)
    return 2 * torch.sinh(half) * torch.exp(-half)


def _is_target(z: Array, index: Array) -> Array:
    # Narrow integers fill the vectors of a processor as float32 does. A scatter would take an array of its own.
    classes = torch.arange(z.shape[-1], dtype=torch.int32, device=z.device)
    return classes == index.to(torch.int32).unsqueeze(-1)


def _exp(z: Array, shift: Array) -> Array:
    """exp(z - shift)."""
    shift = shift.unsqueeze(-1)
    d = z - shift
    e = torch.exp(d)
    # In float64 what the difference is rounded by is below notice, and where nothing is fused, it would cost too much.
    if z.dtype is torch.float64 or not torch.compiler.is_compiling():
        return e
    z, shift, d = z.detach(), shift.detach(), d.detach()
    back = z - d
    lost = (z - (d + back)) + (back - shift)
    # Where the logit is -infinity this is NaN, and long before that the exponential is 0.
    return e + e * torch.where(d > -110.0, lost, 0.0)
