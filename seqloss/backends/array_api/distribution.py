"""Array API: the prior, its sum over the possible classes, and its part of ``unl`` and of gradients."""

from seqloss.backends.array_api import ops
from seqloss.backends.array_api.numbers import along_classes
from seqloss.core.protocol import Array


def shares(z: Array, prior: Array | None) -> tuple[Array, Array]:
    """The prior [..., classes] made to add up to 1, 0 where a class is impossible; and its sum before, [..., 1]."""
    given = ops.ones_like(z, dtype=ops.dtype(z)) if prior is None else prior
    possible = ops.where(z == -float("inf"), 0.0, given)
    mass = along_classes(possible)
    return possible / ops.where(mass == 0.0, 1.0, mass), mass


def mean_below(z: Array, pivot: Array, share: Array) -> Array:
    """The sum of share (pivot - z) along the classes, where 0 times infinity is 0."""
    return along_classes(ops.where(share == 0.0, 0.0, share * (pivot - z)))
