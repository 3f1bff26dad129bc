"""PyTorch: the cross-entropy kernel and its pullback. The formulas stand in ``seqloss.core.protocol``.

The forward kernel is differentiable by itself too: an exported program keeps its operations and forgets the pullback.
"""

from typing import Any

import torch

from seqloss.backends.torch.ops import _is_tracing
from seqloss.core.protocol import Array, TokenStatistics


def token_nll(logits: Array, targets: Array, active: Array | None, dtype: str) -> TokenStatistics:
    z, y, index = _prepare(logits, targets, getattr(torch, dtype))
    bad = (index != y).squeeze(-1)
    shift = z.amax(-1)
    if torch.compiler.is_compiling():
        # An exported program may be differentiated through what follows: no NaN must enter it, and where the target
        # is the largest, its own logit is the pivot. Free where operations are fused.
        bad = bad | ~torch.isfinite(shift)
        z = torch.where(bad.unsqueeze(-1), 0.0, z)
        t = z.gather(-1, index).squeeze(-1)
        shift = torch.where(t == shift, t, shift.detach())
    else:
        t = z.gather(-1, index).squeeze(-1)
    # A row whose largest logit is not finite becomes NaN by itself: inf - inf.
    traced = _is_tracing()
    rest = _fill(_put(_exp(z - shift.unsqueeze(-1), traced), index, 0.0, traced).sum(-1), bad, torch.nan, traced)
    gap = t - shift
    nll = torch.log1p(rest + torch.expm1(gap)) - gap
    if active is not None:
        nll = _fill(nll, ~active, 0.0, traced)
    return TokenStatistics(nll, shift, rest + torch.exp(gap))


def token_nll_pullback(
    cotangent: Array, logits: Array, targets: Array, active: Array | None, statistics: TokenStatistics
) -> Array:
    z, _, index = _prepare(logits, targets, statistics.nll.dtype)
    nll, shift, total = statistics
    used = cotangent.bool() if active is None else cotangent.bool() & active
    # Not in place: with is_grads_batched the cotangent is batched and the logits are not.
    traced = _is_tracing()
    gradient = _exp(z - shift.unsqueeze(-1), traced) * (cotangent / total).unsqueeze(-1)
    gradient = _put(gradient, index, (cotangent * torch.expm1(-nll)).unsqueeze(-1), traced)
    gradient = _fill(gradient, ~used.unsqueeze(-1), 0.0, traced)
    return gradient if gradient.dtype == logits.dtype else gradient.to(logits.dtype)


# The helpers take an array that nobody else holds, and write into it where nothing traces. Under a transformation
# they must not: vmap refuses to put a batched index into an array that is not batched.


def _exp(x: Array, traced: bool) -> Array:
    return torch.exp(x) if traced else x.exp_()


def _put(x: Array, index: Array, value: Any, traced: bool) -> Array:
    return x.scatter(-1, index, value) if traced else x.scatter_(-1, index, value)


def _fill(x: Array, mask: Array, value: float, traced: bool) -> Array:
    return x.masked_fill(mask, value) if traced else x.masked_fill_(mask, value)


def _differentiable_pullback(
    to_nll: Array, to_total: Array | None, logits: Array, targets: Array, active: Array | None
) -> Array:
    """The pullback of nll and of total as operations that autograd differentiates rightly, at any order.

    With the saved statistics as constants, second derivatives would be silently wrong. So they are computed anew by
    the differentiable operation, whose total moves by ``total * p_j`` with logit j while shift is a constant.
    """
    if active is not None:
        to_nll = to_nll.masked_fill(~active, 0.0)
    # Only rows that are not finite: for the others d/dcotangent counts at cotangent 0 too.
    replaced = (to_nll == 0) & ~torch.isfinite(differentiable_token_nll(logits.detach(), targets, None))
    logits = torch.where(replaced.unsqueeze(-1), 0.0, logits)
    nll, shift, total = _TokenNLL.apply(logits, torch.where(replaced, 0, targets), None)
    z, _, index = _prepare(logits, targets, nll.dtype)
    p = torch.exp(z - shift.unsqueeze(-1)) / total.unsqueeze(-1)
    slope = p.scatter(-1, index, torch.expm1(-nll).unsqueeze(-1))
    gradient = slope * to_nll.unsqueeze(-1)
    if to_total is not None:
        gradient = gradient + p * (to_total * total).masked_fill(replaced, 0.0).unsqueeze(-1)
    return gradient.to(logits.dtype)


class _TokenNLL(torch.autograd.Function):
    # setup_context and the vmap rule are what torch.func asks for; with a jvp, compile(fullgraph=True) would refuse.
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Array, targets: Array, active: Array | None) -> tuple[Array, Array, Array]:
        dtype = "float64" if logits.dtype is torch.float64 else "float32"
        nll, shift, total = token_nll(logits, targets, active, dtype)
        return nll, shift, total

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        nll, shift, total = output
        ctx.mark_non_differentiable(shift)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, nll, shift, total)

    @staticmethod
    def backward(ctx: Any, to_nll: Array | None, _: None, to_total: Array | None) -> tuple[Array | None, None, None]:
        logits, targets, active, *statistics = ctx.saved_tensors
        if to_nll is None:
            to_nll = torch.zeros_like(statistics[0])
        # total is an output for the derivatives of this very function alone.
        if to_total is not None or torch.is_grad_enabled():
            return _differentiable_pullback(to_nll, to_total, logits, targets, active), None, None
        return token_nll_pullback(to_nll, logits, targets, active, TokenStatistics(*statistics)), None, None


def differentiable_token_nll(logits: Array, targets: Array, active: Array | None) -> Array:
    """The kernel as an operation that autograd and torch.func differentiate with its pullback."""
    return _TokenNLL.apply(logits, targets, active)[0]


def _prepare(logits: Array, targets: Array, dtype: torch.dtype) -> tuple[Array, Array, Array]:
    """Logits in the compute dtype, the labels, and the labels as an index that is always legal; [..., 1] both."""
    z = logits if logits.dtype is dtype else logits.to(dtype)
    y = (targets if targets.dtype is torch.int64 else targets.to(torch.int64)).unsqueeze(-1)
    return z, y, y.clamp(0, z.shape[-1] - 1)
