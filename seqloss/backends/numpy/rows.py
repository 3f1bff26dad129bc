"""NumPy: rows of logits, forward and back: the common part of the kernels of labels and of soft labels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqloss.backends.numpy.blocks import Block, for_blocks, is_tiny
from seqloss.backends.numpy.distribution import mean_distance, prior_sum, take_away
from seqloss.backends.numpy.numbers import (
    BITS,
    FLOAT64,
    cap_slope,
    less,
    like,
    narrowed,
    plain_nan,
    rows_of,
    zero_if_faint,
    zeros,
)
from seqloss.core.contract import SMALLEST_ACTIVE, Cotangents, Spec, Statistics
from seqloss.core.protocol import Array


class Sums(NamedTuple):
    """What the forward kernels find in each row of logits; 0 for rows that they leave out."""

    highest: Array
    rest: Array
    """The sum of ``exp(z_j - highest)`` over all classes but the first that has the highest logit."""
    distance: Any
    """The sum of ``q_j (highest - z_j)``."""
    mass: Any
    prior: Array | None
    prior_sum: Any
    spec: Spec

    @classmethod
    def of(cls, z: Array, prior: Array | None, spec: Spec) -> "Sums":
        dtype = np.dtype(spec.dtype)
        highest, rest = np.zeros(len(z), dtype), np.zeros(len(z), dtype)
        if not spec.unl:
            return cls(highest, rest, None, None, None, None, spec)
        distance, mass = np.zeros(len(z), dtype), np.zeros(len(z), dtype)
        return cls(highest, rest, distance, mass, prior, prior_sum(prior, z.shape[1], dtype), spec)

    def below_highest(self, block: Block) -> Array:
        """Fill the first room with ``z - highest``, and return a place of the highest in its memory, for each row."""
        self.highest[block.rows], places = block.below_highest(self.spec.softcap)
        if self.spec.unl:
            distance, mass = mean_distance(block, self.prior, self.prior_sum)
            self.distance[block.rows], self.mass[block.rows] = distance, mass
        return places

    def log(self) -> Array:
        """``log1p(rest)``, after ``rest`` is made NaN where the highest logit is infinite."""
        rest = self.rest
        rest += self.highest - self.highest
        return np.log1p(rest)

    def statistics(
        self, nll: Array, log: Array, shape: Any, used: Array | None, saved: tuple[Array, ...]
    ) -> Statistics:
        """All of them in the shape of the tokens."""
        lse = self.highest + log if self.spec.lse else None
        # Where there is no mass, the distance is finite.
        unl = (self.distance + log) * (self.mass != 0) if self.spec.unl else None
        if used is not None and np.count_nonzero(used) != len(used):
            for x in (nll, lse, unl, self.mass):
                if x is not None:
                    x[~used] = 0
        nll, lse, unl, mass = (None if x is None else x.reshape(shape) for x in (nll, lse, unl, self.mass))
        return Statistics(nll, lse, unl, mass, (self.highest, self.rest + 1, *saved))


class Flow(NamedTuple):
    """The cotangents of each token, [tokens]; None means 0."""

    to_nll: Any
    to_powers: Any
    """To lse and unl."""
    to_prior: Any
    """To unl, divided by the mass."""
    used: Any
    """Where one of them is not 0 and the token is active; None if all are None."""

    @classmethod
    def of(cls, cotangents: Cotangents, mass: Array | None, active: Array | None) -> "Flow":
        nll, lse, unl = (None if x is None else x.reshape(-1) for x in cotangents)
        used, per_mass = None, None
        for x in (nll, lse, unl):
            if x is not None:
                used = x != 0 if used is None else used | (x != 0)
        if used is not None and active is not None:
            used &= active.reshape(-1)
        if unl is not None:
            mass = mass.reshape(-1)  # type: ignore[union-attr]
            unl = np.where(mass == 0, unl.dtype.type(0), unl)
            per_mass = unl / np.where(mass == 0, unl.dtype.type(1), mass)
        return cls(nll, plus(lse, unl), per_mass, used)


def plus(x: Array | None, y: Array | None) -> Array:
    """The sum of two arrays of which one may be None, for 0."""
    return y if x is None else x if y is None else x + y


def times(x: Array | None, factor: Array) -> Array | None:
    return None if x is None else x * factor


class Entries(NamedTuple):
    """The gradient of each row: ``scale exp(z_j - highest)``, but another entry at one class."""

    highest: Array
    scale: Array
    index: Array
    other: Array
    powers: list[Array]
    """The exponentials, if they were kept."""

    def faintest(self) -> Array:
        """Where all logits of a row are above this, no entry is a subnormal float32."""
        return np.log(SMALLEST_ACTIVE) - np.log(abs(self.scale)) + self.highest + 0.125


def pulled_back(
    logits: Array,
    entries: Entries,
    flow: Flow,
    prior: Array | None,
    spec: Spec,
    beside: Callable[[Block, Array], Array | None] | None = None,
) -> Array:
    """The gradient of logits: the entries, less the part of the prior, and through the cap.

    ``beside`` is called with each block and its ``z - highest``, and returns what else is taken from the exponentials.
    """
    z, dtype = rows_of(logits), np.dtype(spec.dtype)
    scale, other, to_prior = entries.scale, entries.other, flow.to_prior
    if z.dtype == BITS:
        scale, other, to_prior = (None if x is None else plain_nan(x) for x in (scale, other, to_prior))
    gradient = _Gradient(z, to_prior, prior, spec)
    if gradient.is_exact:
        zero_if_faint(other)
    faintest = entries.faintest() if gradient.is_exact and beside is None else None

    def backward(block: Block) -> None:
        rows, out = block.rows, gradient.room(block)
        if entries.powers:
            np.multiply(entries.powers[0], scale[:, None], out=out)
        else:
            less(block.read(spec.softcap), entries.highest[rows], out)
            taken = None if beside is None else beside(block, out)
            np.exp(out, out=out)
            out *= scale[rows][:, None]
            if taken is not None:
                out -= taken
        out.ravel("K")[block.places(entries.index[rows])] = other[rows]
        gradient.write(out, block, faintest)

    for_blocks(backward, z, flow.used, dtype, 1 if beside is None and prior is None else 2)
    if is_tiny(z, dtype) and np.count_nonzero(flow.used) != len(z):
        gradient.rows[~flow.used] = 0
    return like(gradient.rows, logits)


class _Gradient:
    """The gradient of logits [tokens, classes], which is written block by block."""

    def __init__(self, z: Array, to_prior: Array | None, prior: Array | None, spec: Spec) -> None:
        dtype = np.dtype(spec.dtype)
        self.rows = np.empty(z.shape, z.dtype) if is_tiny(z, dtype) else zeros(z.shape, z.dtype)
        self.is_exact = z.dtype != FLOAT64 == dtype
        self._is_narrower = z.dtype != dtype
        self._to_prior, self._prior, self._softcap = to_prior, prior, spec.softcap
        self._moves = to_prior is not None or spec.softcap is not None

    def room(self, block: Block) -> Array:
        """Room for the entries of a block: where they belong, if that is without gaps and in the order of a room."""
        is_room = not self._is_narrower and not block.is_turned and isinstance(block.rows, slice)
        return self.rows[block.rows] if is_room else block.rooms[0]

    def write(self, out: Array, block: Block, faintest: Array | None) -> None:
        """Bring the entries ``out`` into the gradient; ``faintest`` as in :class:`Entries`, or None."""
        if self._to_prior is not None:
            take_away(out, self._to_prior[block.rows], block, self._prior)
        if self._softcap is not None:
            out *= cap_slope(block.turned(block.logits), self._softcap, out.dtype)
        if self.is_exact and (faintest is None or self._moves or not _above(block, faintest)):
            zero_if_faint(out)
        if out is block.rooms[0]:
            self.rows[block.rows] = narrowed(out, self.rows.dtype)


def _above(block: Block, limits: Array) -> bool:
    """Whether all logits of the block are above those of its rows, for which one pair is compared; False for NaN."""
    return bool(np.minimum.reduce(block.logits, axis=None) > np.maximum.reduce(limits[block.rows]))
