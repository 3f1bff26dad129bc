"""PyTorch: casts of the kernels' numbers to and from their dtypes, and functions that lose no digits.

What is differentiated by itself must be right too: no NaN may enter an operation whose result is thrown away.
"""

from typing import Any

import torch

from seqloss.core.contract import SMALLEST_ACTIVE
from seqloss.core.protocol import Array


def widened(x: Array, dtype: str) -> Array:
    """The same numbers in the dtype of a computation."""
    wanted = getattr(torch, dtype)
    return x if x.dtype is wanted else x.to(wanted)


def narrowed(gradient: Array, dtype: torch.dtype) -> Array:
    """A gradient in the dtype of the logits, rounded once."""
    if gradient.dtype is dtype:
        return gradient
    if gradient.dtype is torch.float64:
        # Subnormal numbers of float32 are 0, because some executors flush them and some do not.
        gradient = torch.where(gradient.abs() < SMALLEST_ACTIVE, 0.0, gradient)
        if dtype is not torch.float32:
            # To half precision by way of float32: rounded to odd, that keeps a trace of what is cut off.
            bits, cut = gradient.view(torch.int64), (1 << 29) - 1
            odd = ((bits & ~cut) | (((bits & cut) != 0).to(torch.int64) << 29)).view(torch.float64)
            # A sum without an error, which has the derivative that bits have not.
            is_smooth = torch.is_grad_enabled()
            gradient = (
                torch.where(odd == gradient, gradient, gradient + (odd - gradient).detach()) if is_smooth else odd
            )
    return gradient.to(torch.float32).to(dtype)


def exp_of_difference(z: Array, shift: Array) -> Array:
    """exp(z - shift) for logits of all classes, and a shift of the same rank."""
    d = z - shift
    e = torch.exp(d)
    # In float64 the rounding error of the difference does not matter, and where nothing is fused, correcting it would
    # cost too much.
    if z.dtype is torch.float64 or not torch.compiler.is_compiling():
        return e
    return e + e * _cut_off(z.detach(), shift.detach(), d.detach())


def exact_exp_of_difference(z: Array, shift: Array) -> Array:
    """exp(z - shift) for one number of each token, without what the difference is rounded by."""
    d = z - shift
    e = torch.exp(d)
    return e + e * _cut_off(z, shift, d)


def _cut_off(z: Array, shift: Array, d: Array) -> Array:
    """What d, which is z - shift, is rounded by; its derivative is 0."""
    back = z - d
    # Where the logit is -infinity this is NaN, and long before that the exponential is 0.
    return torch.where(d > -800.0, (z - (d + back)) + (back - shift), 0.0)


def one_less_exp_minus(x: Array) -> Array:
    """1 - exp(-x) for x >= 0.

    Where torch.compile (torch 2.13) vectorises for the CPU, its expm1(x) is exp(x) - 1, which cancels: see
    pytorch/pytorch#190533.
    """
    if not torch.compiler.is_compiling():
        return -torch.expm1(-x)
    half = 0.5 * x.clamp(max=100.0)
    return 2 * torch.sinh(half) * torch.exp(-half)


def is_infinite(x: Array) -> Array:
    """torch.isinf, which torch.compile (torch 2.13) does not vectorise on the CPU."""
    return x.abs() == torch.inf


def capped(x: Array, softcap: float | None) -> Array:
    """Logits as the contract reads them. The derivative by autograd is as accurate as float32 or float64 around 1."""
    if softcap is None:
        return x
    if x.dtype is torch.float64:
        twice = torch.where(x < 0, -x, x) / (softcap / 2)
        part = one_less_exp_minus(twice)
        size = softcap * (part / (2 - part))
        z = torch.where(x < 0, -size, size)
    else:
        z = softcap * torch.tanh(x / softcap)
    return torch.where(is_infinite(x), x, z)


def levelled(z: Array, x: Array, highest: Array, softcap: float | None) -> Array:
    """Capped logits that are exactly ``capped(highest)`` where x [..., classes] is ``highest`` [...].

    torch.compile (torch 2.13) computes tanh of a single number with other last digits than of many, and the loss of a
    token that is sure is smaller than such a digit.
    """
    if softcap is None or not torch.compiler.is_compiling():
        return z
    column = highest.detach().unsqueeze(-1)
    return torch.where(x == column, z + (capped(column, softcap) - z).detach(), z)


def slope_of_cap(x: Array, softcap: float) -> Array:
    """The derivative of :func:`capped`, to full relative accuracy."""
    e = torch.exp(torch.where(x < 0, x, -x) / (softcap / 2))
    return 4 * e / (1 + e) ** 2


def sum_of_classes(x: Array) -> Array:
    """The sum along the last axis.

    Compiled for the CPU (torch 2.13), float32 adds up thousands of numbers one after the other.
    """
    if x.dtype is torch.float32 and torch.compiler.is_compiling() and x.device.type == "cpu":
        return x.sum(-1, dtype=torch.float64).to(x.dtype)
    return x.sum(-1)


def grid(classes: Any) -> Any:
    """A number that pushes the last digits out of float64 numbers up to 1: of what stays, so many have an exact sum.

    It need not be a power of two: all float64 numbers that are as large are multiples of the same small one.
    """
    least = 3 << 17
    # torch.jit.trace makes tensors of sizes.
    return classes.clamp(min=least) if isinstance(classes, torch.Tensor) else torch.sym_max(classes, least)


def sum_of_terms(e: Array, bad: Array) -> Array:
    """The sum along the last axis of numbers up to 1; in float64 the same in every order of the classes."""
    if e.dtype is not torch.float64:
        return sum_of_classes(e)
    # From the data, though always the same: a constant that is added and taken away again, compilers may leave out.
    large = (~bad).to(e.dtype).unsqueeze(-1) * grid(e.shape[-1])
    coarse = (e + large) - large
    return coarse.sum(-1) + (e - coarse).sum(-1)
