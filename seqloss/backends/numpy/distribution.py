"""NumPy: the prior, a distribution over the classes of which only the possible ones count.

Logits of -infinity are rare. So everything is computed as if there were none, and computed again if the result shows
that there were.
"""

from typing import Any

import numpy as np

from seqloss.backends.numpy.blocks import Block
from seqloss.backends.numpy.numbers import rows_in_order, total
from seqloss.core.protocol import Array


def prior_sum(prior: Array | None, classes: int, dtype: Any) -> Array:
    """The mass where all classes are possible."""
    return dtype.type(classes if prior is None else np.add.reduce(prior, dtype=np.float64))


def mean_distance(block: Block, prior: Array | None, whole: Array) -> tuple[Array, Array]:
    """The sum of ``q_j (p - z_j)`` and the mass; ``z_j - p`` are in the first room of the block.

    ``whole`` is the sum of the prior. The second room is written into if there is a prior.
    """
    below = block.rooms[0]
    distances = total(below if prior is None else np.multiply(below, prior, out=block.rooms[1]))
    distances /= -whole
    mass = np.full_like(distances, whole)
    again = ~np.isfinite(distances)
    if np.count_nonzero(again):
        below = rows_in_order(below, again)
        weights = np.zeros_like(below)
        np.copyto(weights, 1 if prior is None else prior, where=block.logits[again] > -np.inf)
        mass[again] = rest = total(weights.astype(np.float64, copy=False))
        # Made to add up to 1 first, because logits may be so low that their sum is infinite.
        weights /= rest[:, None]
        below *= weights
        below[~(weights > 0)] = 0
        distances[again] = -total(below)
    return distances, mass


def take_away(out: Array, scale: Array, block: Block, prior: Array | None) -> None:
    """Subtract ``scale * prior_j`` from the entries ``out`` of a gradient, where class j is possible.

    The second room of the block is written into if there is a prior.
    """
    part = scale[:, None]
    if prior is not None:
        part = np.multiply(part, prior, out=block.rooms[1])
    if not np.minimum.reduce(block.logits, axis=None) > -np.inf:
        part = np.where(block.logits > -np.inf, part, out.dtype.type(0))
    out -= part
