"""How the token losses become one fraction."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqloss.testing.explain.causes.choice import (
    Axis,
    Choice,
    counted_pad_labels,
    documented,
    every,
    pad_labels,
    padding,
    several_micro_batches,
    several_ranks,
    several_rows,
    shades,
    weights,
)
from seqloss.testing.explain.causes.tokens import time_major
from seqloss.testing.explain.inputs import Fraction, Scored, Situation, even
from seqloss.testing.oracle import WIDE

Array = Any
Step = Callable[[Scored, Situation], Fraction]


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


def by_nothing(scored: Scored, _: Situation) -> Fraction:
    return Fraction(one_row(weighted(scored)), np.ones((1, 1)))


def below_alone(scored: Scored, _: Situation) -> Fraction:
    """sum(nll) / sum(w). A label that is no class adds nothing, as ignore_index has it."""
    legal = (scored.targets >= 0) & (scored.targets < scored.classes)
    return Fraction(one_row(np.where(legal, scored.nll, 0)), one_row(scored.weights))


def above_without_pad(weigh: bool) -> Step:
    """The sum of all weights, below losses from which those of the padding id are left out."""

    def step(scored: Scored, known: Situation) -> Fraction:
        kept = scored.targets != known.pad_id
        terms = weighted(scored) if weigh else scored.nll
        return Fraction(one_row(np.where(kept, terms, 0)), one_row(scored.weights))

    return step


def by_sequence(scored: Scored, _: Situation) -> Fraction:
    return Fraction(weighted(scored), scored.weights)


def by_full_sequence(scored: Scored, _: Situation) -> Fraction:
    return Fraction(weighted(scored), scored.weights, skip_empty=True)


def empty_rows(scored: Scored, _: Situation) -> bool:
    return bool((scored.weights == 0).all(1).any())


def by_micro_batch(scored: Scored, known: Situation) -> Fraction:
    sizes, rows = known.micro_batches or (), len(scored.weights)
    # Where the axes have changed their roles there are as many pieces, of another axis.
    return pieces(scored, sizes if sum(sizes) == rows else even(rows, len(sizes)))


def by_rank(scored: Scored, known: Situation) -> Fraction:
    return pieces(scored, even(len(scored.weights), known.world_size or 1))


def by_strided_rank(scored: Scored, known: Situation) -> Fraction:
    """Rank r has the rows r, r + world_size, ..., as a distributed sampler deals them out."""
    world, rows = known.world_size or 1, len(scored.weights)
    order = np.concatenate([np.arange(r, rows, world) for r in range(min(world, rows))])
    dealt = scored._replace(nll=scored.nll[order], weights=scored.weights[order])
    return pieces(dealt, even(len(order), world))


def pieces(scored: Scored, sizes: tuple[int, ...]) -> Fraction:
    above, below = np.zeros((2, len(sizes), max(sizes, default=0) * scored.weights.shape[1]), WIDE)
    terms, start = weighted(scored), 0
    for i, size in enumerate(sizes):
        for rows, x in ((above, terms), (below, scored.weights)):
            part = x[start : start + size].ravel()
            rows[i, : part.size] = part
        start += size
    return Fraction(above, below)


BY_WEIGHTS = "divide by the sum of the weights"
TOTALS = "add up losses and weights over all pieces, and divide once"
REDUCTION = Axis(
    "reduction",
    (
        documented(by_weights),
        Choice(
            "mean over padding",
            "divides by the number of positions, batch * time, padding included",
            BY_WEIGHTS,
            by_positions,
            padding,
            scales=True,
        ),
        Choice("sum", "does not divide at all", BY_WEIGHTS, by_nothing, scales=True),
        Choice(
            "count of non-zero weights",
            "divides by the number of weights that are not 0",
            BY_WEIGHTS,
            by_nonzero,
            shades,
            scales=True,
        ),
        Choice(
            "batch-size division",
            "divides by the number of sequences",
            BY_WEIGHTS,
            by_batch,
            scales=True,
            not_with=(time_major,),
        ),
        Choice(
            "division by time steps",
            "divides by the number of time steps, as if axis 1 were the batch",
            BY_WEIGHTS,
            by_time,
            scales=True,
            not_with=(time_major,),
        ),
        Choice(
            "weights in the denominator only",
            "takes sum(nll) / sum(w), as PyTorch's cross_entropy(reduction='sum') over mask.sum() does: it has no "
            "weights of tokens",
            "multiply each loss by its weight before they are added up",
            below_alone,
            weights,
        ),
        Choice(
            "mean of per-sequence means",
            "averages each sequence, then the averages, so that tokens of short sequences count more",
            TOTALS,
            by_sequence,
            several_rows,
        ),
        Choice(
            "mean of micro-batch means",
            "averages each micro-batch, then the averages, so that tokens of short micro-batches count more",
            TOTALS,
            by_micro_batch,
            several_micro_batches,
        ),
        Choice(
            "mean of per-rank means",
            "averages the rows of each rank, then the averages, so that tokens of ranks with few tokens count more",
            TOTALS,
            by_rank,
            every(several_ranks, several_rows),
        ),
        Choice(
            "mean of per-sequence means",
            "averages each sequence, then the averages of those that are not empty",
            TOTALS,
            by_full_sequence,
            every(several_rows, empty_rows),
            usual=False,
        ),
        Choice(
            "mean of per-rank means",
            "averages the rows r, r + world_size, ... of each rank r, then the averages",
            TOTALS,
            by_strided_rank,
            every(several_ranks, several_rows),
            usual=False,
        ),
        Choice(
            "mean over padding",
            "divides by the number of positions, batch * time, those included that the shift drops",
            BY_WEIGHTS,
            by_all_positions,
            usual=False,
            beside="shift",
        ),
        *(
            Choice(
                "ignored pad id",
                f"leaves the pad id out of the sum of the losses{how}, but not out of the sum of the weights",
                "leave tokens out by their weights, or out of both sums",
                above_without_pad(weigh),
                needs,
                usual=False,
            )
            for weigh, needs, how in (
                (True, counted_pad_labels, ""),
                (False, every(pad_labels, weights), ", which have no weights,"),
            )
        ),
    ),
)
