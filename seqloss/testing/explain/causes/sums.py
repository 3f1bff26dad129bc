"""How the token losses become one fraction; those that become several are in ``means``."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqloss.testing.explain.causes.choice import (
    Axis,
    Choice,
    Needs,
    call,
    counted_pad_labels,
    documented,
    every,
    pad_labels,
    padding,
    shades,
    weights,
)
from seqloss.testing.explain.causes.means import MEANS, weighted
from seqloss.testing.explain.causes.tokens import time_major
from seqloss.testing.explain.inputs import Fraction, Scored, Situation
from seqloss.testing.oracle import WIDE

Array = Any
Step = Callable[[Scored, Situation], Fraction]


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
    """sum(nll) / sum(w). A label that is not a class adds nothing, as with ignore_index."""
    legal = (scored.targets >= 0) & (scored.targets < scored.classes)
    return Fraction(one_row(np.where(legal, scored.nll, 0)), one_row(scored.weights))


def above_without_pad(weigh: bool) -> Step:
    """The sum of all weights, below losses from which those of the padding id are left out."""

    def step(scored: Scored, known: Situation) -> Fraction:
        kept = scored.targets != known.pad_id
        terms = weighted(scored) if weigh else scored.nll
        return Fraction(one_row(np.where(kept, terms, 0)), one_row(scored.weights))

    return step


BY_WEIGHTS = "divide by the sum of the weights"


def _sum_over(count: str) -> str:
    return call(f"reduction='sum', normalizer={count}")


_LOPSIDED: tuple[tuple[bool, Needs, str, str], ...] = (
    (True, counted_pad_labels, "", ""),
    (False, every(pad_labels, weights), ", which have no weights,", "weights=None, "),
)
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
            same=_sum_over("batch * time"),
        ),
        Choice("sum", "does not divide at all", BY_WEIGHTS, by_nothing, scales=True, same=call("reduction='sum'")),
        Choice(
            "count of non-zero weights",
            "divides by the number of weights that are not 0",
            BY_WEIGHTS,
            by_nonzero,
            shades,
            scales=True,
            same=_sum_over("(weights != 0).sum()"),
        ),
        Choice(
            "batch-size division",
            "divides by the number of sequences",
            BY_WEIGHTS,
            by_batch,
            scales=True,
            not_with=(time_major,),
            same=_sum_over("batch"),
        ),
        Choice(
            "division by time steps",
            "divides by the number of time steps, as if axis 1 were the batch",
            BY_WEIGHTS,
            by_time,
            scales=True,
            not_with=(time_major,),
            same=_sum_over("time"),
        ),
        Choice(
            "weights in the denominator only",
            "takes sum(nll) / sum(w), as PyTorch's cross_entropy(reduction='sum') over mask.sum() does: it has no "
            "weights of tokens",
            "multiply each loss by its weight before they are added up",
            below_alone,
            weights,
            same=call("weights=None, reduction='sum', normalizer=weights.sum()"),
        ),
        *MEANS,
        Choice(
            "mean over padding",
            "divides by the number of positions, batch * time, those included that the shift drops",
            BY_WEIGHTS,
            by_all_positions,
            usual=False,
            beside="shift",
            same=f"{_sum_over('batch * time')}, with the time of before the shift",
        ),
        *(
            Choice(
                "ignored pad id",
                f"leaves the pad id out of the sum of the losses{how}, but not out of the sum of the weights",
                "leave tokens out by their weights, or out of both sums, as ignore_index={pad_id} of seqloss does",
                above_without_pad(weigh),
                needs,
                usual=False,
                same=call(f"{without}ignore_index={{pad_id}}, reduction='sum', normalizer=weights.sum()"),
            )
            for weigh, needs, how, without in _LOPSIDED
        ),
    ),
)
