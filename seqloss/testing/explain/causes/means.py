"""How the token losses become several fractions, of which the mean is taken."""

from typing import Any

import numpy as np

from seqloss.testing.explain.causes.choice import (
    Choice,
    call,
    every,
    several_micro_batches,
    several_ranks,
    several_rows,
)
from seqloss.testing.explain.inputs import Fraction, Scored, Situation, even, full
from seqloss.testing.oracle import WIDE

Array = Any


def weighted(scored: Scored) -> Array:
    return np.where(scored.weights == 0, 0, scored.nll * scored.weights)


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


def by_full_micro_batch(scored: Scored, known: Situation) -> Fraction:
    sizes, rows = known.chunks or (), len(scored.weights)
    return pieces(scored, sizes if sum(sizes) == rows else full(rows, len(sizes)))


def last_is_smaller(_: Scored, known: Situation) -> bool:
    """There are several, of which nobody says that they are cut in another way."""
    return len(known.chunks or ()) > 1 and known.chunks != known.micro_batches


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


TOTALS = (
    "add up losses and weights over all pieces, and divide once; in seqloss pass reduction='sum' and the sum of all "
    "weights as normalizer"
)


def _averaging(pieces: str) -> str:
    return f"average seqloss.sequence_loss of each {pieces}"


MEANS = (
    Choice(
        "mean of per-sequence means",
        "averages each sequence, then the averages, so that tokens of short sequences count more",
        TOTALS,
        by_sequence,
        several_rows,
        same=call("reduction='sequence_mean', normalizer=batch"),
    ),
    Choice(
        "mean of micro-batch means",
        "averages each micro-batch, then the averages, so that tokens of short micro-batches count more",
        TOTALS,
        by_micro_batch,
        several_micro_batches,
        same=_averaging("micro-batch"),
    ),
    Choice(
        "mean of per-rank means",
        "averages the rows of each rank, then the averages, so that tokens of ranks with few tokens count more",
        TOTALS,
        by_rank,
        every(several_ranks, several_rows),
        same=_averaging("rank"),
    ),
    Choice(
        "mean of per-sequence means",
        "averages each sequence, then the averages of those that are not empty",
        TOTALS,
        by_full_sequence,
        every(several_rows, empty_rows),
        usual=False,
        same=call("reduction='sequence_mean'"),
    ),
    Choice(
        "mean of micro-batch means",
        "averages each micro-batch, the last of which is smaller than the others, then the averages",
        TOTALS,
        by_full_micro_batch,
        last_is_smaller,
        usual=False,
        same=_averaging("micro-batch"),
    ),
    Choice(
        "mean of per-rank means",
        "averages the rows r, r + world_size, ... of each rank r, then the averages",
        TOTALS,
        by_strided_rank,
        every(several_ranks, several_rows),
        usual=False,
        same=_averaging("rank"),
    ),
)
