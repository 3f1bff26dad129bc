"""Which logits are scored against which label."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqloss.testing.explain.causes.choice import Axis, Choice, both_axes, call, documented, every, longer_than, padding
from seqloss.testing.explain.inputs import Grid, Situation

Array = Any
Step = Callable[[Grid, Situation], Grid]


def as_given(grid: Grid, _: Situation) -> Grid:
    return grid


def time_major(grid: Grid, _: Situation) -> Grid:
    """Axes 0 and 1 change their roles in everything that follows."""
    return Grid(*(x.swapaxes(0, 1) for x in grid))


def misread(forth: bool, targets: bool = True, weights: bool = True) -> Step:
    """Flattened in one order and read in the other, without an error, because the number of elements is right."""

    def move(x: Array) -> Array:
        return x.T.reshape(x.shape) if forth else x.reshape(x.shape[::-1]).T

    def step(grid: Grid, _: Situation) -> Grid:
        return grid._replace(
            targets=move(grid.targets) if targets else grid.targets,
            weights=move(grid.weights) if weights else grid.weights,
        )

    return step


def shifted(by: int, weights_by: int | None = None) -> Step:
    """Score position t against the label of t + by; positions without such a label are dropped."""
    weights_by = by if weights_by is None else weights_by

    def step(grid: Grid, _: Situation) -> Grid:
        steps = max(grid.targets.shape[1] - abs(by), 0)

        def part(x: Array, offset: int) -> Array:
            start = max(offset, 0)
            return x[:, start : start + steps]

        here = max(-by, 0)
        at = Grid(*(part(x, here) for x in grid))
        return at._replace(targets=part(grid.targets, by), weights=part(grid.weights, weights_by or here))

    return step


def rolled(by: int) -> Step:
    """Score position t against the label of t + by, where the labels go round in a circle; the weights stay."""

    def step(grid: Grid, _: Situation) -> Grid:
        return grid._replace(targets=np.roll(grid.targets, -by, axis=1))

    return step


def dropped(places: slice) -> Step:
    """Only some of the positions are left, logits and labels together."""

    def step(grid: Grid, _: Situation) -> Grid:
        return Grid(*(x[:, places] for x in grid))

    return step


def end_uncounted(last: bool) -> Step:
    """The first or the last token of each sequence that has a weight loses it."""
    turn = slice(None, None, -1 if last else 1)

    def step(grid: Grid, _: Situation) -> Grid:
        counted = (grid.weights != 0)[:, turn]
        end = counted & (counted.cumsum(1) == 1)
        return grid._replace(weights=np.where(end[:, turn], 0, grid.weights))

    return step


def _sliced(logits: str, targets: str, weights: str = "") -> str:
    """Without ``weights`` they go with the targets."""
    return call(f"logits=logits{logits}, targets=targets{targets}, weights=weights{weights or targets}")


TIME_MAJOR = "time-major confusion"
READ_SO = "pass the arrays in the axis order of the logits"
LAYOUT = Axis(
    "layout",
    (
        documented(as_given),
        Choice(
            TIME_MAJOR,
            "reads targets and weights of shape [batch, time] in the order of [time, batch]",
            READ_SO,
            misread(forth=True),
            both_axes,
        ),
        Choice(
            TIME_MAJOR,
            "reads targets and weights of shape [time, batch] in the order of [batch, time]",
            READ_SO,
            misread(forth=False),
            both_axes,
        ),
        Choice(
            TIME_MAJOR,
            "takes axis 0 as time and axis 1 as the batch",
            "swap the first two axes, or tell the loss which axis is time",
            time_major,
        ),
        *(
            Choice(
                TIME_MAJOR,
                f"reads the {what}, and only them, in the order of [{order}]",
                READ_SO,
                misread(forth, targets=what == "targets", weights=what == "weights"),
                both_axes,
                usual=False,
            )
            for what in ("targets", "weights")
            for forth, order in ((True, "time, batch"), (False, "batch, time"))
        ),
    ),
)

FORWARD, BACKWARD = "labels shifted forward", "labels shifted backward"
FIRST, LAST = "first token dropped", "last token dropped"
SHIFT = Axis(
    "shift",
    (
        documented(as_given),
        Choice(
            FORWARD,
            "scores the logits of position t against the label of t + 1",
            "shift only once: either in the data or in the loss",
            shifted(1),
            longer_than(1),
            same=_sliced("[:, :-1]", "[:, 1:]"),
        ),
        Choice(
            BACKWARD,
            "scores the logits of position t against the label of t - 1",
            "reverse the shift: logits[:, :-1] belong to labels[:, 1:]",
            shifted(-1),
            longer_than(1),
            same=_sliced("[:, 1:]", "[:, :-1]"),
        ),
        Choice(
            "doubled shift",
            "scores the logits of position t against the label of t + 2",
            "remove one of the two shifts, the one in the data or the one in the loss",
            shifted(2),
            longer_than(2),
            same=_sliced("[:, :-2]", "[:, 2:]"),
        ),
        Choice(
            FIRST,
            "leaves out position 0: logits[:, 1:] against labels[:, 1:], as Hugging Face's causal models have no "
            "prediction of the first label",
            "score position 0 too, or give it weight 0 on the other side",
            dropped(slice(1, None)),
            longer_than(1),
            same=_sliced("[:, 1:]", "[:, 1:]"),
        ),
        Choice(
            LAST,
            "leaves out the last position: logits[:, :-1] against labels[:, :-1], as when both are cut for the shift",
            "score the last position too, or give it weight 0 on the other side",
            dropped(slice(None, -1)),
            longer_than(1),
            same=_sliced("[:, :-1]", "[:, :-1]"),
        ),
        *(
            Choice(
                name,
                f"leaves out the {end} token of each sequence that has a weight{where}",
                "score it too, or give it weight 0 on the other side",
                end_uncounted(end == "last"),
                every(longer_than(1), padding),
                usual=False,
            )
            for name, end, where in (
                (FIRST, "first", ", wherever its padding is"),
                (LAST, "last", ", as when the end of a sequence is not scored"),
            )
        ),
        Choice(
            FORWARD,
            "scores the logits of position t against the label of t + 1, with the weight of t",
            "shift only once, and the weights with the labels",
            shifted(1, 0),
            longer_than(1),
            usual=False,
            same=_sliced("[:, :-1]", "[:, 1:]", "[:, :-1]"),
        ),
        Choice(
            BACKWARD,
            "scores the logits of position t against the label of t - 1, with the weight of t",
            "reverse the shift, and shift the weights with the labels",
            shifted(-1, 0),
            longer_than(1),
            usual=False,
            same=_sliced("[:, 1:]", "[:, :-1]", "[:, 1:]"),
        ),
        Choice(
            FORWARD,
            "scores the logits of position t against the label of t + 1, and the last ones against the first label",
            "drop the last position instead of rolling the labels, or shift only once",
            rolled(1),
            longer_than(1),
            usual=False,
            same=call("targets=np.roll(targets, -1, axis=1)"),
        ),
        Choice(
            BACKWARD,
            "scores the logits of position t against the label of t - 1, and the first ones against the last label",
            "reverse the shift, and drop a position instead of rolling the labels",
            rolled(-1),
            longer_than(1),
            usual=False,
            same=call("targets=np.roll(targets, 1, axis=1)"),
        ),
    ),
)
