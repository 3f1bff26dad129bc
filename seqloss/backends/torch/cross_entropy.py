"""PyTorch: the cross-entropy kernel and its pullback. The formulas stand in ``seqloss.core.protocol``.

Eager arrays on the CPU do not come here but to NumPy's kernel (see ``seqloss.core.hosted``), unless second derivatives
are wanted. What is here serves other devices; ``rows`` has the form for compilers and transformations.
"""

from typing import Any

import torch

from seqloss.backends.torch import rows
from seqloss.backends.torch.ops import _in_reverse, _is_tracing, _writable
from seqloss.core.protocol import SMALLEST_ACTIVE, Array, TokenStatistics


def token_nll(logits: Array, targets: Array, active: Array | None, dtype: str) -> TokenStatistics:
    z, y = _prepare(logits, targets, getattr(torch, dtype))
    if _is_tracing():
        return rows.token_nll(z, y, active)
    index = y.clamp(0, z.shape[-1] - 1).unsqueeze(-1)
    shift = z.amax(-1)
    gap = z.gather(-1, index).squeeze(-1) - shift
    # A row whose largest logit is not finite becomes NaN by itself: inf - inf.
    rest = (
        torch.exp_(z - shift.unsqueeze(-1))
        .scatter_(-1, index, 0.0)
        .sum(-1)
        .masked_fill_(index.squeeze(-1) != y, torch.nan)
    )
    nll = torch.log1p(rest + torch.expm1(gap)) - gap
    if active is not None:
        nll = nll.masked_fill_(~active, 0.0)
    return TokenStatistics(nll, shift, rest + torch.exp(gap))


def token_nll_pullback(
    cotangent: Array, logits: Array, targets: Array, active: Array | None, statistics: TokenStatistics
) -> Array:
    z, y = _prepare(logits, targets, statistics.nll.dtype)
    is_differentiated = torch.is_grad_enabled() and (z.requires_grad or cotangent.requires_grad)
    if _is_tracing() or is_differentiated or not _are_alike(cotangent, z):
        return _narrowed(rows.token_nll_pullback(cotangent, z, y, active, statistics), logits.dtype)
    nll, shift, total = statistics
    used = cotangent.bool() if active is None else cotangent.bool() & active
    gradient = torch.exp_(z - shift.unsqueeze(-1)).mul_((cotangent / total).unsqueeze(-1))
    index = y.clamp(0, z.shape[-1] - 1).unsqueeze(-1)
    gradient.scatter_(-1, index, (cotangent * torch.expm1(-nll)).unsqueeze(-1))
    return _narrowed(gradient.masked_fill_(~used.unsqueeze(-1), 0.0), logits.dtype)


class _TokenNLL(torch.autograd.Function):
    # setup_context and the vmap rule are what torch.func asks for.
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Array, targets: Array, active: Array | None) -> tuple[Array, Array, Array, Array]:
        dtype = "float64" if logits.dtype is torch.float64 else "float32"
        nll, shift, total = token_nll(logits, targets, active, dtype)
        # The caller may write into the losses, which the pullback needs.
        return nll.clone(), nll, shift, total

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def backward(ctx: Any, to_nll: Array, *_: Any) -> tuple[Array, None, None]:
        logits, targets, active, *saved = ctx.saved_tensors
        statistics = TokenStatistics(*saved)
        # As constants they would make second derivatives silently wrong. Compilers, which always come here, see that
        # this is computed already.
        if torch.is_grad_enabled():
            statistics = rows.token_nll(*_prepare(logits, targets, statistics.nll.dtype), active)
        return token_nll_pullback(to_nll, logits, targets, active, statistics), None, None


_differentiable = _in_reverse(_TokenNLL)


def indices(logits: Array, targets: Array) -> tuple[Array, Array]:
    y = targets.to(torch.int64)
    legal = (y >= 0) & (y < logits.shape[-1])
    return torch.where(legal, y, 0), legal


def differentiable_token_nll(logits: Array, targets: Array, active: Array | None) -> Array:
    """The kernel as an operation that autograd and torch.func differentiate with its pullback."""
    return _writable(_differentiable(logits, targets, active)[0])


def _prepare(logits: Array, targets: Array, dtype: torch.dtype) -> tuple[Array, Array]:
    """Logits in the compute dtype, and labels that index."""
    return logits if logits.dtype is dtype else logits.to(dtype), targets.to(torch.int64)


def _are_alike(x: Array, y: Array) -> bool:
    """Whether both are plain: with is_grads_batched the cotangent stands for many, and nothing tells but this."""
    keys = torch._C._dispatch_keys
    return bool(keys(x).raw_repr() == keys(y).raw_repr())


def _narrowed(gradient: Array, dtype: torch.dtype) -> Array:
    """A gradient in the dtype of the logits, rounded once."""
    if gradient.dtype is dtype:
        return gradient
    if gradient.dtype is torch.float64:
        # Subnormal numbers of float32 are 0, because some executors flush them and some do not.
        gradient = torch.where(gradient.abs() < SMALLEST_ACTIVE, 0.0, gradient)
        if dtype is not torch.float32:
            # To half precision by way of float32: rounded to odd, that keeps a trace of what is cut off.
            bits, cut = gradient.view(torch.int64), (1 << 29) - 1
            gradient = ((bits & ~cut) | (((bits & cut) != 0).to(torch.int64) << 29)).view(torch.float64)
    return gradient.to(torch.float32).to(dtype)
