"""Which tokens count, how much, and which class a label means."""

import numpy as np

from seqloss.testing.explain.causes.choice import (
    SELDOM,
    Axis,
    Choice,
    call,
    counted_pad_labels,
    documented,
    pad_labels,
    shades,
    weights,
)
from seqloss.testing.explain.inputs import Grid, Situation
from seqloss.testing.oracle import WIDE


def as_given(grid: Grid, _: Situation) -> Grid:
    return grid


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


def one_less(grid: Grid, _: Situation) -> Grid:
    """Label 1 means class 0. Label 0 becomes -1, which an index counts from the end."""
    return grid._replace(targets=np.where(grid.targets == 0, grid.logits.shape[-1] - 1, grid.targets - 1))


def one_more(grid: Grid, _: Situation) -> Grid:
    """Label 0 means class 1."""
    return grid._replace(targets=grid.targets + 1)


def room_for_one_more(grid: Grid, _: Situation) -> bool:
    """No label that counts is the last class: nobody scores a class that does not exist."""
    return bool((grid.targets[grid.weights != 0] < grid.logits.shape[-1] - 1).all())


GIVEN = 5.0
"""A caller who passes a pad id has a loss that ignores it, alone or with another cause."""

MASK = Axis(
    "mask",
    (
        documented(as_given),
        Choice(
            "ignored pad id",
            "leaves out every token whose label is the pad id, even where its weight is not 0",
            "leave tokens out by their weights, not by their label; or set those weights to 0 on the other side too",
            without_pad,
            counted_pad_labels,
            weight=GIVEN,
            same=call("ignore_index={pad_id}"),
        ),
        Choice(
            "weights not used",
            "counts every position with weight 1, padding included",
            "pass the weights to the loss",
            unmasked,
            weights,
            same=call("weights=None"),
        ),
        Choice(
            "weights taken as a mask",
            "counts every token whose weight is not 0 with weight 1",
            "multiply by the weights instead of selecting by them",
            as_mask,
            shades,
            same=call("weights=weights != 0"),
        ),
        Choice(
            "ignored pad id",
            "counts every token whose label is not the pad id with weight 1, and does not use the weights",
            "pass the weights to the loss",
            pad_alone,
            pad_labels,
            usual=False,
            same=call("weights=None, ignore_index={pad_id}"),
        ),
    ),
)

FROM_1 = "ids from 1"
LABELS = Axis(
    "labels",
    (
        documented(as_given),
        Choice(
            FROM_1,
            "reads label y as class y - 1, as Lua Torch counts; a label of 0 is the last class then, as index -1 is",
            "count the labels from 0 on both sides",
            one_less,
            weight=SELDOM,
            same=call("targets=(targets - 1) % classes"),
        ),
        Choice(
            FROM_1,
            "reads label y as class y + 1, as where class 0 is kept for padding or blanks",
            "count the labels from 0 on both sides, or keep class 0 on both",
            one_more,
            room_for_one_more,
            weight=SELDOM,
            same=call("targets=targets + 1"),
        ),
    ),
)
