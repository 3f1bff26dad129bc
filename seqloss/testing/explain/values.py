"""The loss of some inputs under every convention that is tried."""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from seqloss.testing.explain.causes import AXES, POWER, SMOOTHING, Choice
from seqloss.testing.explain.causes.costs import own
from seqloss.testing.explain.inputs import Grid, Situation
from seqloss.testing.explain.overflow import Sizes, sizes

Array = Any

Convention = tuple[int, ...]
"""The number of the choice on each axis; 0 is the documented one."""

DOCUMENTED: Convention = (0,) * len(AXES)
SMOOTHED, RAISED = AXES.index(SMOOTHING), AXES.index(POWER)

NO_EFFECT = 1e-13
"""Two conventions whose results are as close as this, relatively, are the same on these inputs."""

NAMED = 5.0
"""Who names an eps compares smoothing with another one, or with none; and so with a cap, or a temperature."""

RARE, PAIRED = 1 / 2, 1 / 12
"""The weight of a rare form of a cause, and of a pair beside its causes: there are more than ten times as many."""

LEAST_PAIR = 0.1
"""Two causes whose weights multiply to less are each too rare to be tried together."""


class Values(NamedTuple):
    """All conventions, their losses, and of how many causes each is made."""

    conventions: list[Convention]
    losses: Array
    costs: Array
    grains: Array
    weights: Array
    """How common each is: its part of the accidents that are put up with."""
    scaling: Array
    """Where the conventions of one cause are which multiplies the loss by a number."""
    gains: Array
    """By how much a relative error of the loss grows in what is made of it."""
    spread: float
    """The size of the numbers that make a token loss, relative to the loss."""
    tokens: int
    sizes: Sizes
    """How large the numbers on the way become."""
    known: Situation


def choices(convention: Convention) -> list[Choice]:
    """What a convention does in another way than documented, in the order of the steps."""
    return [axis.choices[i] for axis, i in zip(AXES, convention, strict=True) if i]


def described(convention: Convention) -> str:
    names = " and ".join(choice.name for choice in choices(convention))
    return f"the documented weighted mean with {names}" if names else "the documented weighted mean"


def cost(convention: Convention) -> int:
    return sum(not choice.free for choice in choices(convention))


def weight(convention: Convention, known: Situation) -> float:
    """The more causes, and the rarer they are, the less."""
    made_of = choices(convention)
    is_named = [choice.named(known) for choice in made_of]
    alone = [1 if named else choice.weight for named, choice in zip(is_named, made_of, strict=True)]
    return float(
        (NAMED if known.names_numbers and all(is_named) else 1)
        * PAIRED ** max(cost(convention) - 1, 0)
        * np.prod([weight * (1 if choice.usual else RARE) for weight, choice in zip(alone, made_of, strict=True)])
    )


def tried() -> list[Convention]:
    """Every convention of at most two causes."""
    places = [(axis, i) for axis, (_, offered) in enumerate(AXES) for i in range(1, len(offered))]
    single = [place for place in places if not _at(place).free and not _at(place).beside]
    usual = [place for place in single if _at(place).usual]
    sets: list[tuple[tuple[int, int], ...]] = [(), *((place,) for place in single)]
    sets += [pair for pair in combinations(usual, 2) if _sensible(*pair)]
    beside = [place for place in places if _at(place).beside]
    sets += [(place, other) for place in beside for other in usual if AXES[other[0]].name == _at(place).beside]
    found = [_with(DOCUMENTED, places) for places in sets]
    free = [place for place in places if _at(place).free]
    return found + [_with(c, (place,)) for place in free for c in found if not c[place[0]]]


def _at(place: tuple[int, int]) -> Choice:
    axis, i = place
    return AXES[axis].choices[i]


def _sensible(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two causes are of two steps, no long way round, and not too rare to meet."""
    a, b = _at(first), _at(second)
    meant = a.step not in b.not_with and b.step not in a.not_with
    return first[0] != second[0] and meant and a.weight * b.weight >= LEAST_PAIR


def _with(convention: Convention, places: tuple[tuple[int, int], ...]) -> Convention:
    changed = list(convention)
    for axis, i in places:
        changed[axis] = i
    return tuple(changed)


TRIED = tried()


@np.errstate(all="ignore")
def values(grid: Grid, known: Situation) -> Values:
    """The losses under all conventions in which every cause is there and changes something."""
    known = known._replace(positions=grid.targets.size)
    seen: dict[Convention, Any] = {(): grid}

    def state(path: Convention) -> Any:
        """What a path leads to; None where something is missing that a step needs."""
        if path not in seen:
            choice, before = AXES[len(path) - 1].choices[path[-1]], state(path[:-1])
            there = before is not None and choice.needs(before, known)
            seen[path] = choice.step(before, known) if there else None
        return seen[path]

    found = {convention: state(convention) for convention in TRIED}
    losses = {convention: float(loss) for convention, loss in found.items() if loss is not None}
    kept = [c for c, loss in losses.items() if c == DOCUMENTED or (np.isfinite(loss) and _effective(c, loss, losses))]
    numbers = np.asarray([losses[c] for c in kept])
    raised = np.asarray([c[RAISED] != 0 for c in kept])
    with np.errstate(all="ignore"):
        # d(exp L) / exp L = L dL / L
        gains = np.where(raised, np.maximum(np.abs(np.log(np.abs(numbers))), 1), 1)
    return Values(
        kept,
        losses=numbers,
        costs=np.asarray([cost(c) for c in kept]),
        grains=np.asarray([max((choice.grain for choice in choices(c)), default=0.0) for c in kept]),
        weights=np.asarray([weight(c, known) for c in kept]),
        scaling=np.asarray([i for i, c in enumerate(kept) if [x.scales for x in choices(c)] == [True]], int),
        gains=gains,
        spread=_spread(grid),
        tokens=int((grid.weights != 0).sum()),
        sizes=sizes(grid, losses[DOCUMENTED]),
        known=known,
    )


def _effective(convention: Convention, loss: float, losses: dict[Convention, float]) -> bool:
    """Whether leaving out any one cause, or all but what counts as none, changes the loss."""
    one_out = [(*convention[:axis], 0, *convention[axis + 1 :]) for axis in range(len(AXES))]
    smoothing = convention[SMOOTHED] if SMOOTHING.choices[convention[SMOOTHED]].free else 0
    all_out = _with(DOCUMENTED, ((SMOOTHED, smoothing),))
    others = [losses[other] for other in (*one_out, all_out) if other != convention and other in losses]
    return not any(other == loss or abs(other - loss) <= NO_EFFECT * abs(loss) for other in others)


def _spread(grid: Grid) -> float:
    """A loss that is a small difference of large logits has their rounding errors."""
    nll, weights = np.abs(own(grid)), np.abs(grid.weights)
    counted = (weights > 0) & np.isfinite(nll) & np.isfinite(grid.lse)
    parts = ((nll + 1 + np.abs(grid.lse)) * weights)[counted].sum()
    whole = (nll * weights)[counted].sum()
    return float(parts / whole) if whole > 0 else 1.0
