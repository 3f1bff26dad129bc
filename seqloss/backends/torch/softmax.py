"""PyTorch: cross entropy against soft labels, and its pullback. The formulas stand in ``seqloss.core.protocol``.

Both are differentiable by themselves: second derivatives, and exported programs, go through the operations written
here.
"""

from typing import Any

import torch

from seqloss.backends.torch.ops import _in_reverse, _writable
from seqloss.core.protocol import Array, LabelStatistics


def softmax_nll(logits: Array, labels: Array) -> LabelStatistics:
    z = _prepare(logits)
    # A row without a loss is NaN in the end; zeros meanwhile keep NaN out of the derivatives of what follows.
    good = torch.isfinite(z.detach().amax(-1, keepdim=True))
    z = torch.where(good, z, 0.0)
    index = z.detach().argmax(-1, keepdim=True)
    shift = z.gather(-1, index)
    rest = torch.exp(z - shift).scatter(-1, index, 0.0).sum(-1, keepdim=True)
    # A class that cannot happen and is not asked for costs nothing: 0 times infinity is 0 here.
    possible = torch.where((labels == 0) & torch.isinf(shift - z), shift, z)
    nll = (labels * ((shift - possible) + torch.log1p(rest))).sum(-1, keepdim=True)
    nll, rest = (torch.where(good, x, torch.nan) for x in (nll, rest))
    return LabelStatistics(nll.squeeze(-1), shift.squeeze(-1), rest.squeeze(-1))


def softmax_nll_pullback(
    cotangent: Array, logits: Array, labels: Array, mass: Array, statistics: LabelStatistics, wrt_labels: bool
) -> tuple[Array, Array | None]:
    z = _prepare(logits)
    columns = (cotangent, mass, statistics.shift, statistics.rest)
    g, mass, shift, rest = (x.unsqueeze(-1) for x in columns)
    # Only rows that are not finite: for the others d/dcotangent counts at cotangent 0 too.
    replaced = (g == 0) & ~torch.isfinite(shift + rest)
    z, shift, rest = (torch.where(replaced, 0.0, x) for x in (z, shift, rest))
    labels, mass = (torch.where((g == 0) & ~torch.isfinite(x), 0.0, x) for x in (labels, mass))
    index = z.detach().argmax(-1, keepdim=True)
    at_highest = (mass - labels.gather(-1, index)) - mass * (rest / (1 + rest))
    slope = (mass * (torch.exp(z - shift) / (1 + rest)) - labels).scatter(-1, index, at_highest)
    to_logits = (g * slope).to(logits.dtype)
    if not wrt_labels:
        return to_logits, None
    # A class that cannot happen has an infinite cost, which 0 must remove as well.
    possible = torch.where((g == 0) & torch.isinf(shift - z), shift, z)
    return to_logits, g * ((shift - possible) + torch.log1p(rest))


class _SoftmaxNLL(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Array, labels: Array, mass: Array) -> tuple[Array, Array, Array, Array]:
        nll, shift, rest = softmax_nll(logits, labels)
        # The caller may write into the losses: they must be neither a view nor what the pullback needs.
        return nll.clone(), nll, shift, rest

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def backward(ctx: Any, to_nll: Array, *_: Any) -> tuple[Array, Array | None, None]:
        logits, labels, mass, *statistics = ctx.saved_tensors
        # As constants the statistics would make second derivatives silently wrong.
        if torch.is_grad_enabled():
            statistics = softmax_nll(logits, labels)
        wanted = ctx.needs_input_grad[1]
        return *softmax_nll_pullback(to_nll, logits, labels, mass, LabelStatistics(*statistics), wanted), None


_differentiable = _in_reverse(_SoftmaxNLL)


def differentiable_softmax_nll(logits: Array, labels: Array, mass: Array) -> Array:
    """The kernel as an operation that autograd and torch.func differentiate with its pullback."""
    return _writable(_differentiable(logits, labels, mass)[0])


def _prepare(logits: Array) -> Array:
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.to(torch.float32)
