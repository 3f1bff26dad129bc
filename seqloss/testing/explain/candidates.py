"""The causes that reconcile two numbers, and how easily they would do so by accident."""

from itertools import product
from typing import NamedTuple

import numpy as np

from seqloss.testing.explain import match
from seqloss.testing.explain.causes import AXES, STEPS, WORLD, Choice
from seqloss.testing.explain.digits import Number
from seqloss.testing.explain.inputs import Situation
from seqloss.testing.explain.match import LIKELY, Reading
from seqloss.testing.explain.result import Cause, Causes, Side
from seqloss.testing.explain.values import DOCUMENTED, Convention, Values, choices

CERTAIN = 1e-6
"""The largest chance of an agreement by accident at which a cause is called certain."""

UNSURE = 2 * CERTAIN
"""The least chance for causes that are never certain, because the only sign of them is a ratio."""

RATIO_LIKELY = 1e-5
"""The same if no convention gives either number: there is less evidence for it."""

COMMON = 0.5
"""How much a cause that both sides share counts, relative to one that makes a difference."""

FEW = 16
"""A factor up to this that is a whole number is as likely to be another one of that size."""

SHOWN = 8


class Candidate(NamedTuple):
    """Causes that reconcile the two numbers."""

    causes: Causes
    effort: float
    chance: float
    mine: Convention
    theirs: Convention
    bare: bool
    """Whether the only sign of it is a factor, which may have many other reasons."""


def of_readings(
    mine: list[Reading], theirs: list[Reading], values: Values, ratio: float, allowed: float
) -> list[Candidate]:
    """What differs between a convention that gives mine and one that gives theirs."""
    found = []
    for a, b in product(mine, theirs):
        differing = _differing(a.convention, b.convention)
        if not differing:
            continue
        common = sum(
            i == j != 0 and not axis.choices[i].free
            for axis, i, j in zip(AXES, a.convention, b.convention, strict=True)
        )
        bare = is_bare([choice for choice, _ in differing], ratio, allowed)
        # A number that has nothing to do with the inputs has to fit by itself: the other one does not help it.
        chance = max(a.chance, b.chance, UNSURE if bare else 0.0)
        causes = tuple(cause(choice, side, values.known) for choice, side in differing)
        found.append(Candidate(causes, len(causes) + COMMON * common, chance, a.convention, b.convention, bare))
    return found


def _differing(mine: Convention, theirs: Convention) -> list[tuple[Choice, Side]]:
    sides: tuple[Side, Side] = ("mine", "theirs")
    return [
        (axis.choices[i], side)
        for axis, *pair in zip(AXES, mine, theirs, strict=True)
        if pair[0] != pair[1]
        for i, side in zip(pair, sides, strict=True)
        if i
    ]


def cause(choice: Choice, side: Side, known: Situation) -> Cause:
    does, mend, same = (text.format(**known.facts) for text in (choice.does, choice.mend, choice.same))
    return Cause(choice.name, side, does, mend, same)


def is_bare(differing: list[Choice], ratio: float, allowed: float) -> bool:
    """Whether the difference is a factor that points to nothing in particular.

    It is if several factors make it, since a third one would do as well, if no array has a part in it, or if it is as
    simple a number as twice.
    """
    if not all(choice.scales for choice in differing):
        return False
    told = all(choice in (*WORLD.choices, *STEPS.choices) for choice in differing)
    return len(differing) > 1 or told or _simple(abs(ratio), allowed)


def _simple(ratio: float, allowed: float) -> bool:
    """Whether the larger number is a few times the other one, or a power of two times, as scaled losses are."""
    if not 0 < ratio < np.inf:
        return False
    times = max(ratio, 1 / ratio)
    few = [round(times)] if times < FEW + 1 else []
    return any(x > 1 and abs(times / x - 1) <= allowed for x in (*few, 2.0 ** round(np.log2(times))))


def by_ratio(mine: Number, theirs: Number, values: Values, allowed: float) -> list[Candidate]:
    """One factor between numbers that no convention gives: it depends only on counts and options."""
    if not (mine.telling and theirs.telling):
        return []
    with np.errstate(all="ignore"):
        factors = values.losses[values.scaling] / values.losses[values.conventions.index(DOCUMENTED)]
        pool = np.concatenate([factors, 1 / factors])
        ratio = float(np.divide(theirs.value, mine.value))
    if not (np.isfinite(ratio) and ratio):
        return []
    floor = max(mine.resolution + theirs.resolution, 2.0**-52)
    around = match.density(ratio, 1.0, pool, np.ones_like(pool), allowed)
    found = []
    ways: tuple[tuple[int, Side], ...] = ((1, "theirs"), (-1, "mine"))
    for sign, side in ways:
        with np.errstate(all="ignore"):
            distances = np.abs(factors**sign / ratio - 1)
        for i, distance in zip(values.scaling, distances.tolist(), strict=True):
            if distance <= allowed:
                chance = max(max(distance, floor) * around, UNSURE)
                (choice,) = choices(values.conventions[i])
                bare = is_bare([choice], ratio, allowed)
                found.append(Candidate((cause(choice, side, values.known),), 1, chance, DOCUMENTED, DOCUMENTED, bare))
    return best([c for c in found if c.chance <= RATIO_LIKELY])


def solid(candidates: list[Candidate]) -> list[Candidate]:
    """Those to be named, and those that are about as simple and fit as well, however rare: they could be it too."""
    likely = best([c for c in candidates if c.chance <= LIKELY])
    rare = [c for c in candidates if c.chance > LIKELY]
    return best(likely + rare, least=likely[0].effort) if likely else []


def best(candidates: list[Candidate], least: float = 0.0) -> list[Candidate]:
    """The simplest first, then those of at most one cause more; each set of named causes once."""
    ranked = sorted(candidates, key=lambda c: (max(c.effort, least), _rank(c)))
    distinct = {_named(c): c for c in reversed(ranked) if c.effort <= max(ranked[0].effort, least) + 1}
    return [c for c in ranked if distinct.get(_named(c)) is c][:SHOWN]


def _named(candidate: Candidate) -> frozenset[tuple[str, str]]:
    """The key that tells causes apart: two forms of one cause on one side do not compete."""
    return frozenset((cause.name, cause.side) for cause in candidate.causes)


def _rank(candidate: Candidate) -> tuple[bool, int, list[tuple[int, int]]]:
    """Likely ones before doubtful ones, usual forms before rarer ones, then the order of the table."""
    both = [choice for convention in (candidate.mine, candidate.theirs) for choice in choices(convention)]
    pairs = enumerate(zip(candidate.mine, candidate.theirs, strict=True))
    places = [(axis, i) for axis, pair in pairs for i in pair if i]
    return candidate.chance > LIKELY, sum(not choice.usual for choice in both), places
