"""PyTorch: cross entropy of independent classes, and its pullback. The formulas are in ``seqloss.core.contract``."""

import torch

from seqloss.backends.torch.numbers import is_infinite, narrowed
from seqloss.core.protocol import Array


def sigmoid_nll(logits: Array, labels: Array, pos_weight: Array | None) -> Array:
    x = logits.to(labels.dtype)
    # An entry without a loss becomes NaN at the end; until then it is 0, to keep NaN out of the derivatives of what
    # follows, which exported programs go through: a mask must remove it there too.
    bad = torch.isnan(x)
    x = torch.where(bad, 0.0, x)
    against, along = 1 - labels, labels if pos_weight is None else pos_weight * labels
    # Infinite logits whose label has the factor 0 are replaced before the product: 0 times infinity is 0 here.
    one = against * _softplus(torch.where((against == 0) & is_infinite(x), 0.0, x))
    other = along * _softplus(torch.where((along == 0) & is_infinite(x), 0.0, -x))
    return torch.where(bad, torch.nan, one + other)


def sigmoid_pullback(
    cotangent: Array, logits: Array, labels: Array, pos_weight: Array | None, wrt_labels: bool
) -> tuple[Array, Array | None, Array | None]:
    x, g = logits.to(labels.dtype), cotangent
    # Only where it is not finite: elsewhere d/dcotangent is needed at cotangent 0 too.
    x, labels = (torch.where((g == 0) & ~torch.isfinite(a), 0.0, a) for a in (x, labels))
    if pos_weight is not None:
        pos_weight = torch.where((g == 0) & ~torch.isfinite(pos_weight), 0.0, pos_weight)
    up, down = _sigmoid(x), _sigmoid(-x)
    along = labels if pos_weight is None else pos_weight * labels
    to_logits = narrowed(g * ((1 - labels) * up - along * down), logits.dtype)
    if not wrt_labels:
        return to_logits, None, None
    if pos_weight is None:
        return to_logits, -g * x, None
    tail, slope = torch.log1p(torch.exp(torch.where(x >= 0, -x, x))), torch.where(x >= 0, 1.0, pos_weight)
    # The cotangent first: a product that overflows without it must not do so with a cotangent of 0.
    to_labels = g * (pos_weight - 1) * tail - g * slope * torch.where((slope == 0) & is_infinite(x), 0.0, x)
    asked = _softplus(torch.where((labels == 0) & is_infinite(x), 0.0, -x))
    return to_logits, to_labels, g * (labels * asked)


def _softplus(x: Array) -> Array:
    """log(1 + exp(x)). Both branches at 0 have the slope 1/2, because the sign is taken from a comparison."""
    return torch.where(x >= 0, x, 0.0) + torch.log1p(torch.exp(torch.where(x >= 0, -x, x)))


def _sigmoid(x: Array) -> Array:
    e = torch.exp(torch.where(x >= 0, -x, x))
    return torch.where(x >= 0, 1.0, e) / (1 + e)
