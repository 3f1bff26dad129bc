"""The loss of some inputs under every convention that is tried."""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from seqloss.testing.explain import steps
from seqloss.testing.explain.inputs import Grid, Situation
from seqloss.testing.explain.table import AXES, GIVEN, SMOOTHING, Choice

Array = Any

Convention = tuple[int, ...]
"""The number of the choice on each axis; 0 is the documented one."""

DOCUMENTED: Convention = (0,) * len(AXES)
SMOOTHED = AXES.index(SMOOTHING)

NO_EFFECT = 1e-13
"""Two conventions whose results are as close as this, relatively, are the same on these inputs."""


RARE, PAIRED = 1 / 2, 1 / 12
"""The weight of a rare form of a cause, and of a pair beside its causes: there are more than ten times as many."""


class Values(NamedTuple):
    """All conventions, their losses, and of how many causes each is made."""

    conventions: list[Convention]
    losses: Array
    costs: Array
    grains: Array
    weights: Array
    """How common each is: its part of the accidents that are put up with."""
    spread: float
    """The size of the numbers that make a token loss, relative to the loss."""
    tokens: int


def choices(convention: Convention) -> list[Choice]:
    """What a convention does in another way than documented, in the order of the steps."""
    return [axis.choices[i] for axis, i in zip(AXES, convention, strict=True) if i]


def cost(convention: Convention) -> int:
    return sum(not choice.free for choice in choices(convention))


def weight(convention: Convention, known: Situation) -> float:
    """The more causes, and the rarer they are, the less; who names an eps compares smoothing with another, or none."""
    made_of = choices(convention)
    smoothing_alone = len(made_of) == (convention[SMOOTHED] != 0)
    return float(
        (GIVEN if known.label_smoothing and smoothing_alone else 1)
        * PAIRED ** max(cost(convention) - 1, 0)
        * np.prod([choice.weight * (1 if choice.usual else RARE) for choice in made_of])
    )


def tried(known: Situation) -> list[Convention]:
    """Every convention of at most two causes, of those that these inputs can be computed under."""
    single = [
        (axis, i)
        for axis, (_, offered) in enumerate(AXES)
        for i, choice in enumerate(offered)
        if i and not choice.free and not choice.beside and choice.known(known)
    ]
    beside = [(axis, i) for axis, (_, offered) in enumerate(AXES) for i, choice in enumerate(offered) if choice.beside]
    usual = [place for place in single if _at(place).usual]
    sets: list[tuple[tuple[int, int], ...]] = [(), *((place,) for place in single)]
    sets += [pair for pair in combinations(usual, 2) if _sensible(*pair)]
    sets += [(place, other) for place in beside for other in usual if AXES[other[0]].name == _at(place).beside]
    free = [i for i, choice in enumerate(SMOOTHING.choices) if choice.free and choice.known(known)]
    found = [_with(DOCUMENTED, places) for places in sets]
    found += [_with(c, ((SMOOTHED, i),)) for i in free for c in found if not c[SMOOTHED]]
    return found


def _at(place: tuple[int, int]) -> Choice:
    axis, i = place
    return AXES[axis].choices[i]


def _sensible(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two causes are of two steps, and are no long way round: over swapped axes rows are time steps."""
    made_of = {_at(first).step, _at(second).step}
    return first[0] != second[0] and not (steps.time_major in made_of and made_of & {steps.by_batch, steps.by_time})


def _with(convention: Convention, places: tuple[tuple[int, int], ...]) -> Convention:
    changed = list(convention)
    for axis, i in places:
        changed[axis] = i
    return tuple(changed)


def values(grid: Grid, known: Situation) -> Values:
    """The losses under all conventions, without those in which a cause changes nothing, or that have no number."""
    known = known._replace(positions=grid.targets.size)
    seen: dict[Convention, Any] = {(): grid}

    def state(path: Convention) -> Any:
        if path not in seen:
            axis = AXES[len(path) - 1]
            seen[path] = axis.choices[path[-1]].step(state(path[:-1]), known)
        return seen[path]

    losses = {convention: float(state(convention)) for convention in tried(known)}
    kept = [c for c, loss in losses.items() if _effective(c, loss, losses)]
    return Values(
        kept,
        losses=np.asarray([losses[c] for c in kept]),
        costs=np.asarray([cost(c) for c in kept]),
        grains=np.asarray([max((choice.grain for choice in choices(c)), default=0.0) for c in kept]),
        weights=np.asarray([weight(c, known) for c in kept]),
        spread=_spread(grid),
        tokens=int((grid.weights != 0).sum()),
    )


def _effective(convention: Convention, loss: float, losses: dict[Convention, float]) -> bool:
    """Whether leaving out one cause, or all, changes the loss."""
    all_out = _freely(convention, [0] * len(AXES))
    one_out = [_freely(convention, [*convention[:axis], 0, *convention[axis + 1 :]]) for axis in range(len(AXES))]
    others = [losses[other] for other in (*one_out, all_out) if other != convention and other in losses]
    return not any(other == loss or abs(other - loss) <= NO_EFFECT * abs(loss) for other in others)


def _freely(convention: Convention, fewer: list[int]) -> Convention:
    """Fewer causes, but with what counts as none."""
    smoothing = convention[SMOOTHED]
    if SMOOTHING.choices[smoothing].free:
        fewer[SMOOTHED] = smoothing
    return tuple(fewer)


def _spread(grid: Grid) -> float:
    """A loss that is a small difference of large logits has their rounding errors."""
    nll, weights = np.abs(steps.own(grid)), np.abs(grid.weights)
    counted = (weights > 0) & np.isfinite(nll) & np.isfinite(grid.lse)
    parts = ((nll + 1 + np.abs(grid.lse)) * weights)[counted].sum()
    whole = (nll * weights)[counted].sum()
    return float(parts / whole) if whole > 0 else 1.0
