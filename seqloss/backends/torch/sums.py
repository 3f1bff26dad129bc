"""PyTorch: sums with twice the digits, and their quotients."""

from typing import Any, NamedTuple

import torch

from seqloss.backends import compensated
from seqloss.core.protocol import Array


class _Wide(NamedTuple):
    """A sum: in float64 if that is wider than ``dtype``, else rounded to it and with what was cut off."""

    value: Array
    rest: Array | None
    dtype: torch.dtype


def wide_sum(x: Array, weights: Array | None, *, axis: tuple[int, ...]) -> _Wide:
    if x.dtype is torch.float64 or x.device.type == "mps":  # Apple's GPUs have no float64
        return _Wide(*_sum_with_rest(x, weights, axis), x.dtype)
    terms = x.double() if weights is None else x.double() * weights.double()
    return _Wide(terms.sum(axis), None, x.dtype)


def quotient(numerator: _Wide, denominator: Any) -> Array:
    n, n_rest, dtype = numerator
    if isinstance(denominator, _Wide):
        d, d_rest, _ = denominator
    else:  # sizes may be symbols, which only an array can be compared with
        d = denominator.to(n.dtype) if isinstance(denominator, torch.Tensor) else torch.ones_like(n) * denominator
        d_rest = None
    empty = d == 0
    safe = torch.where(empty, 1.0, d)
    value = n / safe
    if n_rest is not None:
        value = value + _rest_of_quotient(value, (n, n_rest), safe, d_rest)
    return torch.where(empty, 0.0, value).to(dtype)


def _sum_with_rest(x: Array, weights: Array | None, axis: tuple[int, ...]) -> tuple[Array, Array]:
    """``sum(x * weights)``, rounded once and with the derivative of the plain sum; and what was cut off."""
    plain = (x if weights is None else x * weights).sum(axis)
    terms, cut = x.detach(), torch.zeros_like(x)
    if weights is not None:
        terms, cut = compensated.product(terms, weights.detach(), str(x.dtype).removeprefix("torch."))
    first = _coarse(terms, axis)
    terms = terms - first
    second = _coarse(terms, axis)
    high, low = compensated.difference(first.sum(axis), -second.sum(axis))
    low = low + ((terms - second) + cut).sum(axis)
    total = plain + ((high + low) - plain).detach()
    rest = (high - total.detach()) + low
    # Where the numbers are not finite, or so large that what is cut off cannot be found.
    known = torch.isfinite(rest)
    return torch.where(known, total, plain), torch.where(known, rest, 0.0)


def _rest_of_quotient(quotient: Array, numerator: tuple[Array, Array], d: Array, d_rest: Array | None) -> Array:
    """What is left of a quotient of such sums when the rounded one is taken away; it has no derivative."""
    quotient, n, n_rest, d = (x.detach() for x in (quotient, *numerator, d))
    product, cut = compensated.product(quotient, d, str(quotient.dtype).removeprefix("torch."))
    rest = ((n - product) - cut) + n_rest
    if d_rest is not None:
        rest = rest - quotient * d_rest.detach()
    rest = rest / d
    return torch.where(torch.isfinite(rest), rest, 0.0)


def _coarse(x: Array, axis: tuple[int, ...]) -> Array:
    """Numbers near those of x, so coarse that their sum has no error; what is left are numbers too."""
    large = 4 * x.abs().sum(axis, keepdim=True)
    return (x + large) - large
