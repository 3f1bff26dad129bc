"""What a token costs: how its logits become probabilities, and against which distribution they are scored."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqloss.testing.explain.causes.choice import SELDOM, Axis, Choice, Needs, call, documented
from seqloss.testing.explain.inputs import Grid, Scored, Situation
from seqloss.testing.explain.scaling import SOFTCAPS, TEMPERATURES
from seqloss.testing.oracle import WIDE

Array = Any


def own(grid: Grid) -> Array:
    """The loss of the label of each token; NaN where there is no such class."""
    with np.errstate(all="ignore"):
        return grid.lse - _at_label(grid)


def _at_label(grid: Grid) -> Array:
    legal = (grid.targets >= 0) & (grid.targets < grid.logits.shape[-1])
    index = np.where(legal, grid.targets, 0)[..., None]
    return np.where(legal, np.take_along_axis(grid.logits, index, -1)[..., 0].astype(WIDE), np.nan)


def _scored(grid: Grid, nll: Array, total: Array, lse: Array) -> Scored:
    return Scored(nll, grid.weights, grid.targets, total, lse, grid.logits.shape[-1])


# Softmax: Grid -> Scored.


def once(grid: Grid, _: Situation) -> Scored:
    return _scored(grid, own(grid), grid.total, grid.lse)


def twice(grid: Grid, _: Situation) -> Scored:
    """Softmax of softmax: log(sum_k exp(p_k)) - p_y, where the p_k add up to 1."""
    with np.errstate(all="ignore"):
        nll = grid.twice - np.exp(-own(grid))
        return _scored(grid, nll, grid.logits.shape[-1] * grid.twice - 1, grid.twice)


def never(grid: Grid, _: Situation) -> Scored:
    """The logits are probabilities: -log(z_y)."""
    with np.errstate(all="ignore"):
        nll, total = -np.log(_at_label(grid)), -np.log(grid.logits.astype(WIDE)).sum(-1)
        return _scored(grid, nll, total, np.log(grid.mass))


def of_scaled(place: int) -> Callable[[Grid, Situation], Scored]:
    """The logits are others."""

    def step(grid: Grid, known: Situation) -> Scored:
        scaling: Any = known.scalings[place]  # not None: tried_at has asked
        lse, total = np.moveaxis(grid.scaled[..., place, :], -1, 0)
        with np.errstate(all="ignore"):
            # The same float64 as that of which lse was made, because a small difference of large numbers would suffer.
            nll = lse - scaling.function(_at_label(grid).astype(np.float64))
        return _scored(grid, nll, total, lse)

    return step


def tried_at(place: int) -> Needs:
    """There is a number in this place: who names one has one only."""
    return lambda _, known: known.scalings[place] is not None


def probabilities(grid: Grid, _: Situation) -> bool:
    """Each row of logits is a distribution, up to half precision."""
    return bool(grid.mass.size) and bool((np.abs(grid.mass - 1) <= 1e-2).all())


OCCASIONAL = 0.1
"""The weight of a cause whose number the caller did not pass: most losses do not have it."""


def _softcap(place: int) -> Choice:
    cap = f"{{scalings[{place}].by:g}}"
    return Choice(
        "softcap",
        f"replaces the logits by {cap} * tanh(logits / {cap}), as Gemma 2 does",
        "leave the cap out, or cap the logits on the other side too",
        of_scaled(place),
        tried_at(place),
        usual=place == 0,
        weight=OCCASIONAL,
        same=call(f"softcap={{scalings[{place}].by}}"),
        named=lambda known: known.softcap is not None,
    )


def _temperature(place: int) -> Choice:
    by = f"{{scalings[{place}].by}}"
    return Choice(
        "temperature",
        f"divides the logits by {by}, as for sampling or distillation",
        "score the logits as the model returns them, or divide them on the other side too",
        of_scaled(place),
        tried_at(place),
        usual=place == len(SOFTCAPS),
        weight=OCCASIONAL,
        same=call(f"logits=logits / {by}"),
        named=lambda known: known.temperature is not None,
    )


TWICE = "double softmax"
SOFTMAX = Axis(
    "softmax",
    (
        documented(once),
        Choice(
            TWICE,
            "takes the softmax of softmax(logits), as PyTorch's CrossEntropyLoss after a softmax layer does, or Keras "
            "with from_logits=True",
            "pass the logits themselves, or tell the loss that they are probabilities",
            twice,
            weight=SELDOM,
            same=call("logits=softmax(logits)"),
        ),
        Choice(
            "logits taken as probabilities",
            "takes -log(logits[y]) without a softmax, as Keras with from_logits=False does; they are probabilities, "
            "so the other side has a double softmax",
            "keep it, and pass log(probabilities) as logits on the other side",
            never,
            probabilities,
            same=call("logits=log(logits)"),
        ),
        *map(_softcap, range(len(SOFTCAPS))),
        *(_temperature(len(SOFTCAPS) + i) for i in range(len(TEMPERATURES))),
    ),
)


# Smoothing: Scored -> Scored.


def hard(scored: Scored, _: Situation) -> Scored:
    return scored


def soft(spread_over: int, entropy: bool = False) -> Callable[[Scored, Situation], Scored]:
    """Labels with eps spread over all classes (0), over all but the label (1), or one fewer still (2).

    With ``entropy`` the entropy of such a label, the least loss there is, is taken off.
    """

    def step(scored: Scored, known: Situation) -> Scored:
        eps, classes, nll = WIDE(known.label_smoothing or 0), scored.classes, scored.nll
        rest = eps / (classes - spread_over)
        target = 1 - eps + (0 if spread_over else rest)
        with np.errstate(all="ignore"):
            smooth = target * nll + rest * (scored.total - nll)
            if entropy:
                smooth = smooth + target * np.log(target) + (classes - 1) * rest * np.log(rest)
        return scored._replace(nll=smooth)

    return step


def smoothing(spread_over: int) -> Needs:
    """There is an eps, and there are classes to spread it over."""

    def needs(scored: Scored, known: Situation) -> bool:
        return known.label_smoothing is not None and scored.classes > max(spread_over, 1)

    return needs


K_MINUS_1 = "spreads eps over the other K-1 classes"


def smooths(known: Situation) -> bool:
    return known.label_smoothing is not None


SMOOTHING = Axis(
    "smoothing",
    (
        documented(hard),
        Choice(
            "label smoothing eps/K",
            "spreads eps over all K classes, the label included",
            "leave the smoothing out, or smooth on the other side too",
            soft(0),
            smoothing(0),
            named=smooths,
            free=True,
            same=call("label_smoothing={label_smoothing}"),
        ),
        Choice(
            "label smoothing eps/(K-1)",
            f"{K_MINUS_1} and leaves 1-eps at the label",
            "use eps*K/(K-1) in place of eps in a formula with eps/K, or the other way round",
            soft(1),
            smoothing(1),
            named=smooths,
            same=call("label_smoothing=seqloss.Smoothing({label_smoothing}, off_target=True)"),
        ),
        Choice(
            "label smoothing minus the entropy",
            f"{K_MINUS_1} and subtracts the entropy of the smoothed label from the loss",
            "add the constant -(1-eps)*log(1-eps) - eps*log(eps/(K-1)) to it",
            soft(1, entropy=True),
            smoothing(1),
            named=smooths,
            same=call("label_smoothing=seqloss.Smoothing({label_smoothing}, off_target=True, centred=True)"),
        ),
        Choice(
            "label smoothing minus the entropy",
            "spreads eps over all K classes and subtracts the entropy of the smoothed label from the loss",
            "add the entropy of the smoothed label to it",
            soft(0, entropy=True),
            smoothing(0),
            named=smooths,
            usual=False,
            same=f"{call('label_smoothing={label_smoothing}')}, and subtract that entropy",
        ),
        Choice(
            "label smoothing eps/(K-2)",
            "gives each other class eps/(K-2), as if one more class were left out",
            "leave out the class on both sides or on none",
            soft(2),
            smoothing(2),
            named=smooths,
            usual=False,
        ),
    ),
)
