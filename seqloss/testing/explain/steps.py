"""The steps of a loss under every convention: pure functions of arrays, in the wide floats of the oracle.

A loss is a path: layout, shift and mask say which tokens count, smoothing gives each a loss, a reduction makes a
fraction of sums, precision divides it, and factors remain. Each function below is one way to take one of these steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqloss.testing.explain import half
from seqloss.testing.explain.inputs import Grid, Situation, even
from seqloss.testing.oracle import WIDE

Array = Any


class Scored(NamedTuple):
    """A loss and a weight for each token, [batch, time], and its label."""

    nll: Array
    weights: Array
    targets: Array


class Fraction(NamedTuple):
    """Rows of summands above and below the line; the loss is the mean of the quotients of the rows."""

    above: Array
    below: Array
    skip_empty: bool = False


# Layout, shift and mask: Grid -> Grid.


def as_given(grid: Grid, _: Situation) -> Grid:
    return grid


def time_major(grid: Grid, _: Situation) -> Grid:
    """Axes 0 and 1 change their roles in everything that follows."""
    return Grid(*(x.swapaxes(0, 1) for x in grid))


def misread(forth: bool, targets: bool = True, weights: bool = True) -> Callable[[Grid, Situation], Grid]:
    """Flattened in one order and read in the other, without an error, because the number of elements is right."""

    def move(x: Array) -> Array:
        return x.T.reshape(x.shape) if forth else x.reshape(x.shape[::-1]).T

    def step(grid: Grid, _: Situation) -> Grid:
        return grid._replace(
            targets=move(grid.targets) if targets else grid.targets,
            weights=move(grid.weights) if weights else grid.weights,
        )

    return step


def shifted(by: int, weights_by: int | None = None) -> Callable[[Grid, Situation], Grid]:
    """Score position t against the label of t + by; positions without such a label are dropped."""
    weights_by = by if weights_by is None else weights_by

    def step(grid: Grid, _: Situation) -> Grid:
        steps = max(grid.targets.shape[1] - abs(by), 0)

        def part(x: Array, offset: int) -> Array:
            start = max(offset, 0)
            return x[:, start : start + steps]

        here = -by if by < 0 else 0
        logits, lse, total = (part(x, here) for x in (grid.logits, grid.lse, grid.total))
        return Grid(logits, lse, total, part(grid.targets, by), part(grid.weights, weights_by if weights_by else here))

    return step


def rolled(by: int) -> Callable[[Grid, Situation], Grid]:
    """Score position t against the label of t + by, where the labels go round in a circle; the weights stay."""

    def step(grid: Grid, _: Situation) -> Grid:
        return grid._replace(targets=np.roll(grid.targets, -by, axis=1))

    return step


def without_pad(grid: Grid, known: Situation) -> Grid:
    """The weights, and nothing where the label is the padding id."""
    return grid._replace(weights=np.where(grid.targets == known.pad_id, 0, grid.weights))


def pad_alone(grid: Grid, known: Situation) -> Grid:
    """One for each label that is not the padding id, whatever the weights say."""
    return grid._replace(weights=(grid.targets != known.pad_id).astype(WIDE))


def unmasked(grid: Grid, _: Situation) -> Grid:
    return grid._replace(weights=np.ones_like(grid.weights))


def as_mask(grid: Grid, _: Situation) -> Grid:
    return grid._replace(weights=(grid.weights != 0).astype(WIDE))


# Smoothing: Grid -> Scored.


def own(grid: Grid) -> Array:
    """The loss of the label of each token; NaN where there is no such class."""
    legal = (grid.targets >= 0) & (grid.targets < grid.logits.shape[-1])
    index = np.where(legal, grid.targets, 0)[..., None]
    with np.errstate(all="ignore"):
        nll = grid.lse - np.take_along_axis(grid.logits, index, -1)[..., 0].astype(WIDE)
    return np.where(legal, nll, np.nan)


def hard(grid: Grid, _: Situation) -> Scored:
    return Scored(own(grid), grid.weights, grid.targets)


def soft(spread_over: int, entropy: bool = False) -> Callable[[Grid, Situation], Scored]:
    """Labels with eps spread over all classes (0), over all but the label (1), or one fewer still (2).

    With ``entropy`` the entropy of such a label, the least loss there is, is taken off.
    """

    def step(grid: Grid, known: Situation) -> Scored:
        eps = WIDE(known.label_smoothing or 0)
        classes = grid.logits.shape[-1]
        rest = eps / (classes - spread_over) if classes > spread_over else WIDE(np.nan)
        target = 1 - eps + (0 if spread_over else rest)
        nll = own(grid)
        with np.errstate(all="ignore"):
            smooth = target * nll + rest * (grid.total - nll)
            if entropy:
                smooth = smooth + target * np.log(target) + (classes - 1) * rest * np.log(rest)
        return Scored(smooth, grid.weights, grid.targets)

    return step


# Reduction: Scored -> Fraction.


def weighted(scored: Scored) -> Array:
    return np.where(scored.weights == 0, 0, scored.nll * scored.weights)


def one_row(x: Array) -> Array:
    return x.reshape(1, -1)


def by_weights(scored: Scored, _: Situation) -> Fraction:
    return Fraction(one_row(weighted(scored)), one_row(scored.weights))


def by_positions(scored: Scored, _: Situation) -> Fraction:
    return Fraction(one_row(weighted(scored)), np.ones((1, scored.weights.size)))


def by_all_positions(scored: Scored, known: Situation) -> Fraction:
    return Fraction(one_row(weighted(scored)), np.ones((1, known.positions)))


def by_nonzero(scored: Scored, _: Situation) -> Fraction:
    return Fraction(one_row(weighted(scored)), one_row((scored.weights != 0).astype(WIDE)))


def by_batch(scored: Scored, _: Situation) -> Fraction:
    return Fraction(one_row(weighted(scored)), np.ones((1, len(scored.weights))))


def by_time(scored: Scored, _: Situation) -> Fraction:
    return Fraction(one_row(weighted(scored)), np.ones((1, scored.weights.shape[1])))


def above_without_pad(weigh: bool) -> Callable[[Scored, Situation], Fraction]:
    """The sum of all weights, below losses from which those of the padding id are left out."""

    def step(scored: Scored, known: Situation) -> Fraction:
        kept = scored.targets != known.pad_id
        terms = weighted(scored) if weigh else scored.nll
        return Fraction(one_row(np.where(kept, terms, 0)), one_row(scored.weights))

    return step


def by_nothing(scored: Scored, _: Situation) -> Fraction:
    return Fraction(one_row(weighted(scored)), np.ones((1, 1)))


def by_sequence(scored: Scored, _: Situation) -> Fraction:
    return Fraction(weighted(scored), scored.weights)


def by_full_sequence(scored: Scored, _: Situation) -> Fraction:
    return Fraction(weighted(scored), scored.weights, skip_empty=True)


def by_micro_batch(scored: Scored, known: Situation) -> Fraction:
    sizes, rows = known.micro_batches or (), len(scored.weights)
    # Where the axes have changed their roles there are as many pieces, of another axis.
    return pieces(scored, sizes if sum(sizes) == rows else even(rows, len(sizes)))


def by_rank(scored: Scored, known: Situation) -> Fraction:
    return pieces(scored, even(len(scored.weights), known.world_size or 1))


def by_strided_rank(scored: Scored, known: Situation) -> Fraction:
    """Rank r has the rows r, r + world_size, ..., as a distributed sampler deals them out."""
    world = known.world_size or 1
    order = np.concatenate([np.arange(r, len(scored.weights), world) for r in range(world)])
    return pieces(Scored(*(x[order] for x in scored)), even(len(order), world))


def pieces(scored: Scored, sizes: tuple[int, ...]) -> Fraction:
    above, below = np.zeros((2, len(sizes), max(sizes, default=0) * scored.weights.shape[1]), WIDE)
    terms, start = weighted(scored), 0
    for i, size in enumerate(sizes):
        for rows, x in ((above, terms), (below, scored.weights)):
            part = x[start : start + size].ravel()
            rows[i, : part.size] = part
        start += size
    return Fraction(above, below)


# Precision: Fraction -> a number. Factors: a number -> a number.


def exact(fraction: Fraction, _: Situation) -> float:
    return mean(fraction.above.sum(-1), fraction.below.sum(-1), fraction.skip_empty)


Sum = Callable[[Array, str], Array]


def halved(dtype: str, above: Sum | None, below: Sum | None, terms: bool = False) -> Callable[..., float]:
    """Sums in half precision above the line, below it, or both; with ``terms`` each summand is rounded by itself."""

    def step(fraction: Fraction, _: Situation) -> float:
        upper, lower = fraction.above, fraction.below
        upper = half.rounded(upper, dtype) if terms else upper
        return mean(
            above(upper, dtype) if above else upper.sum(-1),
            below(lower, dtype) if below else lower.sum(-1),
            fraction.skip_empty,
        )

    return step


def mean(above: Array, below: Array, skip_empty: bool) -> float:
    """The mean of quotients, where one with nothing below the line is 0, and left out if so asked."""
    empty = below == 0
    with np.errstate(all="ignore"):
        quotients = np.where(empty, 0, above / np.where(empty, 1, below))
        count = (~empty).sum() if skip_empty else len(quotients)
        return float(quotients.sum() / count) if count else float("nan")


def factor(of: Callable[[Situation], float]) -> Callable[[float, Situation], float]:
    def step(value: float, known: Situation) -> float:
        return value * of(known)

    return step
