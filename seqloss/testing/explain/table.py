"""The table of causes: every convention that a loss is known to be computed under by mistake or by habit."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from seqloss.testing.explain import half, steps
from seqloss.testing.explain.inputs import Situation


def always(_: Situation) -> bool:
    return True


class Choice(NamedTuple):
    """One way to take a step: its name, what it does, how to undo it, and the function that does it."""

    name: str
    does: str
    mend: str
    step: Callable[..., Any]
    known: Callable[[Situation], bool] = always
    """Whether what it needs is known."""
    usual: bool = True
    """Whether it is tried together with another one; the rarer forms of a cause are tried alone."""
    scales: bool = False
    """Whether it multiplies the loss by a number that does not depend on the token losses."""
    grain: float = 0.0
    """How coarse, relative to the loss, the numbers are that it can give."""
    weight: float = 1.0
    """How common it is, beside the others."""
    beside: str = ""
    """The axis of which a usual choice has to be made too; without one this is another choice."""
    free: bool = False
    """Whether it counts as no cause where both sides have it."""


class Axis(NamedTuple):
    """A step of the way: the documented choice stands first."""

    name: str
    choices: tuple[Choice, ...]


def documented(step: Callable[..., Any]) -> Choice:
    return Choice("", "", "", step)


def _pad(known: Situation) -> bool:
    return known.pad_id is not None


def _smoothing(known: Situation) -> bool:
    return known.label_smoothing is not None


def _world(known: Situation) -> bool:
    return (known.world_size or 1) > 1


def _accumulation(known: Situation) -> bool:
    return (known.accumulation_steps or 1) > 1


def _micro(known: Situation) -> bool:
    return len(known.micro_batches or ()) > 1


GIVEN = 5.0
"""Who names a pad id has a loss that leaves it out, alone or beside another cause."""

TIME_MAJOR = "time-major confusion"
READ_SO = "hand the arrays over in the axis order of the logits"
LAYOUT = Axis(
    "layout",
    (
        documented(steps.as_given),
        Choice(
            TIME_MAJOR,
            "reads targets and weights of shape [batch, time] in the order of [time, batch]",
            READ_SO,
            steps.misread(forth=True),
        ),
        Choice(
            TIME_MAJOR,
            "reads targets and weights of shape [time, batch] in the order of [batch, time]",
            READ_SO,
            steps.misread(forth=False),
        ),
        Choice(
            TIME_MAJOR,
            "takes axis 0 for time and axis 1 for the batch",
            "swap the first two axes, or tell the loss which axis is time",
            steps.time_major,
        ),
        *(
            Choice(
                TIME_MAJOR,
                f"reads the {what}, and only them, in the order of [{order}]",
                READ_SO,
                steps.misread(forth, targets=what == "targets", weights=what == "weights"),
                usual=False,
            )
            for what in ("targets", "weights")
            for forth, order in ((True, "time, batch"), (False, "batch, time"))
        ),
    ),
)

SHIFT = Axis(
    "shift",
    (
        documented(steps.as_given),
        Choice(
            "labels shifted forward",
            "scores the logits of position t against the label of t + 1",
            "shift only once: either in the data or in the loss",
            steps.shifted(1),
        ),
        Choice(
            "labels shifted backward",
            "scores the logits of position t against the label of t - 1",
            "turn the shift round: logits[:, :-1] belong to labels[:, 1:]",
            steps.shifted(-1),
        ),
        Choice(
            "doubled shift",
            "scores the logits of position t against the label of t + 2",
            "remove one of the two shifts, the one in the data or the one in the loss",
            steps.shifted(2),
        ),
        Choice(
            "labels shifted forward",
            "scores the logits of position t against the label of t + 1, with the weight of t",
            "shift only once, and the weights with the labels",
            steps.shifted(1, 0),
            usual=False,
        ),
        Choice(
            "labels shifted backward",
            "scores the logits of position t against the label of t - 1, with the weight of t",
            "turn the shift round, and shift the weights with the labels",
            steps.shifted(-1, 0),
            usual=False,
        ),
        Choice(
            "labels shifted forward",
            "scores the logits of position t against the label of t + 1, and the last ones against the first label",
            "drop the last position instead of rolling the labels, or shift only once",
            steps.rolled(1),
            usual=False,
        ),
        Choice(
            "labels shifted backward",
            "scores the logits of position t against the label of t - 1, and the first ones against the last label",
            "turn the shift round, and drop a position instead of rolling the labels",
            steps.rolled(-1),
            usual=False,
        ),
    ),
)

MASK = Axis(
    "mask",
    (
        documented(steps.as_given),
        Choice(
            "ignored pad id",
            "leaves out every token whose label is the pad id, also where its weight is not 0",
            "leave tokens out by their weights, not by their label; or set those weights to 0 on the other side too",
            steps.without_pad,
            _pad,
            weight=GIVEN,
        ),
        Choice(
            "weights not used",
            "counts every position with weight 1, padding included",
            "pass the weights to the loss",
            steps.unmasked,
        ),
        Choice(
            "weights taken as a mask",
            "counts every token whose weight is not 0 with weight 1",
            "multiply by the weights instead of selecting by them",
            steps.as_mask,
        ),
        Choice(
            "ignored pad id",
            "counts every token whose label is not the pad id with weight 1, and does not use the weights",
            "pass the weights to the loss",
            steps.pad_alone,
            _pad,
            usual=False,
        ),
    ),
)

K_MINUS_1 = "spreads eps over the other K-1 classes"
SMOOTHING = Axis(
    "smoothing",
    (
        documented(steps.hard),
        Choice(
            "label smoothing eps/K",
            "spreads eps over all K classes, the label included",
            "use the same label smoothing on both sides",
            steps.soft(0),
            _smoothing,
            free=True,
        ),
        Choice(
            "label smoothing eps/(K-1)",
            f"{K_MINUS_1} and leaves 1-eps at the label",
            "use eps*K/(K-1) in place of eps in a formula with eps/K, or the other way round",
            steps.soft(1),
            _smoothing,
        ),
        Choice(
            "label smoothing minus the entropy",
            f"{K_MINUS_1} and takes the entropy of the smoothed label off the loss",
            "add the constant -(1-eps)*log(1-eps) - eps*log(eps/(K-1)) to it",
            steps.soft(1, entropy=True),
            _smoothing,
        ),
        Choice(
            "label smoothing minus the entropy",
            "spreads eps over all K classes and takes the entropy of the smoothed label off the loss",
            "add the entropy of the smoothed label to it",
            steps.soft(0, entropy=True),
            _smoothing,
            usual=False,
        ),
        Choice(
            "label smoothing eps/(K-2)",
            "gives each other class eps/(K-2), as if one more class were left out",
            "leave out the class on both sides or on none",
            steps.soft(2),
            _smoothing,
            usual=False,
        ),
    ),
)

BY_WEIGHTS = "divide by the sum of the weights"
TOTALS = "add up losses and weights over all pieces, and divide once"
REDUCTION = Axis(
    "reduction",
    (
        documented(steps.by_weights),
        Choice(
            "mean over padding",
            "divides by the number of positions, batch * time, padding included",
            BY_WEIGHTS,
            steps.by_positions,
            scales=True,
        ),
        Choice("sum", "does not divide at all", BY_WEIGHTS, steps.by_nothing, scales=True),
        Choice(
            "count of non-zero weights",
            "divides by the number of weights that are not 0",
            BY_WEIGHTS,
            steps.by_nonzero,
            scales=True,
        ),
        Choice("batch-size division", "divides by the number of sequences", BY_WEIGHTS, steps.by_batch, scales=True),
        Choice(
            "division by time steps",
            "divides by the number of time steps, as if axis 1 were the batch",
            BY_WEIGHTS,
            steps.by_time,
            scales=True,
        ),
        Choice(
            "mean of per-sequence means",
            "averages each sequence, then the averages, so that tokens of short sequences count more",
            TOTALS,
            steps.by_sequence,
        ),
        Choice(
            "mean of micro-batch means",
            "averages each micro-batch, then the averages, so that tokens of short micro-batches count more",
            TOTALS,
            steps.by_micro_batch,
            _micro,
        ),
        Choice(
            "mean of per-rank means",
            "averages the rows of each rank, then the averages, so that tokens of ranks with few tokens count more",
            TOTALS,
            steps.by_rank,
            _world,
        ),
        Choice(
            "mean of per-sequence means",
            "averages each sequence, then the averages of those that are not empty",
            TOTALS,
            steps.by_full_sequence,
            usual=False,
        ),
        Choice(
            "mean of per-rank means",
            "averages the rows r, r + world_size, ... of each rank r, then the averages",
            TOTALS,
            steps.by_strided_rank,
            _world,
            usual=False,
        ),
        Choice(
            "mean over padding",
            "divides by the number of positions, batch * time, those included that the shift drops",
            BY_WEIGHTS,
            steps.by_all_positions,
            usual=False,
            beside="shift",
        ),
        *(
            Choice(
                "ignored pad id",
                f"leaves the pad id out of the sum of the losses{how}, but not out of the sum of the weights",
                "leave tokens out by their weights, or out of both sums",
                steps.above_without_pad(weigh),
                _pad,
                usual=False,
            )
            for weigh, how in ((True, ""), (False, ", which have no weights,"))
        ),
    ),
)


HALF = 0.1
"""Each of the causes of half precision by itself is rare, and they are many."""


def _half(dtype: str) -> tuple[Choice, ...]:
    grain = half.GRAIN[dtype]
    cast = "cast losses and weights to float32 before they are added up"

    def choice(what: str, does: str, above: steps.Sum | None, below: steps.Sum | None, **more: Any) -> Choice:
        step = steps.halved(dtype, above, below, more.pop("terms", False))
        coarse = grain if above else 0.0
        return Choice(f"half-precision {what} ({dtype})", does, cast, step, grain=coarse, weight=HALF, **more)

    once, one_by_one = half.once, half.one_by_one
    return (
        choice("count", f"rounds the sum of the weights to {dtype}", None, once),
        choice("count", f"adds up the weights one by one in {dtype}", None, one_by_one),
        choice("sum", f"rounds the sum of the losses to {dtype}", once, None),
        choice("sum", f"adds up the losses one by one in {dtype}", one_by_one, None),
        choice("sum and count", f"rounds both sums to {dtype}", once, once, usual=False),
        choice("sum and count", f"adds up both one by one in {dtype}", one_by_one, one_by_one, usual=False),
        choice("token losses", f"rounds the loss of each token to {dtype}", None, None, usual=False, terms=True),
    )


PRECISION = Axis("precision", (documented(steps.exact), *_half("bfloat16"), *_half("float16")))

UNIT = Axis(
    "unit",
    (
        documented(steps.factor(lambda _: 1.0)),
        Choice(
            "base-2 logarithms", "is in bits", "multiply by ln 2", steps.factor(lambda _: 1 / math.log(2)), scales=True
        ),
    ),
)


def _scaled(name: str, count: Callable[[Situation], int], known: Callable[[Situation], bool], why: str) -> Axis:
    return Axis(
        name,
        (
            documented(steps.factor(lambda _: 1.0)),
            Choice(
                f"times {name}",
                f"is multiplied by {name}",
                f"divide by {name}: {why}",
                steps.factor(lambda s: float(count(s))),
                known,
                scales=True,
            ),
            Choice(
                f"divided by {name}",
                f"is divided by {name}",
                f"multiply by {name}: {why}",
                steps.factor(lambda s: 1.0 / count(s)),
                known,
                scales=True,
            ),
        ),
    )


WORLD = _scaled(
    "world_size",
    lambda s: s.world_size or 1,
    _world,
    "reduce over ranks by a sum or by a mean, but on both sides alike",
)
STEPS = _scaled(
    "accumulation_steps",
    lambda s: s.accumulation_steps or 1,
    _accumulation,
    "normalise once for all accumulation steps",
)

AXES = (LAYOUT, SHIFT, MASK, SMOOTHING, REDUCTION, PRECISION, UNIT, WORLD, STEPS)
