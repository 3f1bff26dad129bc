"""PyTorch: the prior on the possible classes, as ``unl`` needs it: see :mod:`seqloss.core.contract`.

All take logits [..., classes] in the compute dtype, and the prior [classes] or None for ones.
"""

import torch

from seqloss.backends.torch.numbers import sum_of_classes
from seqloss.core.protocol import Array


def mass(z: Array, prior: Array | None) -> Array:
    """The sum of the prior over the possible classes. It has no derivative."""
    possible = z.detach() > -torch.inf
    return sum_of_classes(possible.to(z.dtype) if prior is None else torch.where(possible, prior.detach(), 0.0))


def spread(z: Array, highest: Array, prior: Array | None, mass: Array) -> Array:
    """The sum of q_j (highest - z_j), where q is the prior made to add up to 1. (Anything where it cannot be.)"""
    distance = torch.where(z > -torch.inf, highest.unsqueeze(-1) - z, 0.0)
    return sum_of_classes(distance if prior is None else prior.detach() * distance) / _divisor(mass)


def coefficient(cotangent: Array, mass: Array) -> tuple[Array, Array]:
    """The cotangent of ``unl``, which is none where there is no prior, and what the prior is multiplied with."""
    cotangent = torch.where(mass == 0, 0.0, cotangent)
    return cotangent, cotangent / _divisor(mass)


def part(z: Array, prior: Array | None, coefficient: Array) -> Array:
    """What the prior takes away from the gradient of each class."""
    column = coefficient.unsqueeze(-1)
    return torch.where(z > -torch.inf, column if prior is None else column * prior.detach(), 0.0)


def part_at(t: Array, index: Array, prior: Array | None, coefficient: Array) -> Array:
    """The same for one class of each token, whose logit is t."""
    return torch.where(t > -torch.inf, coefficient if prior is None else coefficient * prior.detach()[index], 0.0)


def _divisor(mass: Array) -> Array:
    return torch.where(mass == 0, 1.0, mass)
