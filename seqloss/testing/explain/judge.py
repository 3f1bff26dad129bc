"""From what each number fits to what makes the difference."""

from dataclasses import replace
from itertools import product
from typing import Literal, NamedTuple

import numpy as np

from seqloss.testing.explain import match
from seqloss.testing.explain.digits import Number
from seqloss.testing.explain.match import Reading
from seqloss.testing.explain.result import Cause, Causes, Explanation, described
from seqloss.testing.explain.table import AXES, Choice
from seqloss.testing.explain.values import DOCUMENTED, Convention, Values, choices

LIKELY, CERTAIN = 2.5e-4, 1e-6
"""The largest chance of an agreement by accident at which a cause is named, and at which it is called certain."""

UNSURE = 2 * CERTAIN
"""The least chance of what is never certain, because only a ratio speaks for it."""

RATIO_LIKELY = 1e-5
"""The same where the inputs give neither number: there is less to be wrong about, and less that speaks for it."""

BEFOREHAND = (0.5, 0.5, 0.1, 0.02, 0.01)
"""How likely so many causes are before the numbers are seen, beside that it is none of these."""

COMMON = 0.5
"""What a cause that both sides share counts beside one that makes a difference."""

SHOWN, FEW = 8, 3


class Candidate(NamedTuple):
    """Causes that reconcile the two numbers."""

    causes: Causes
    effort: float
    chance: float
    mine: Convention
    theirs: Convention


def judge(mine: Number, theirs: Number, values: Values, dtype: str, rtol: float | None) -> Explanation:
    """Compare, read each number, and name the least that makes them differ."""
    allowed = [match.tolerance(number, values, dtype, rtol) for number in (mine, theirs)]
    facts = Explanation(mine.value, theirs.value, "none", tried=len(values.conventions))
    if _same(mine.value, theirs.value, max(allowed)):
        return replace(facts, verdict="same", confidence=1.0, certainty="the same", chance=0.0)
    read = match.readings(mine, theirs, values, allowed[0]), match.readings(theirs, mine, values, allowed[1])
    candidates = _candidates(*read)
    solid = _solid(candidates) or _best(_by_ratio(mine, theirs, values, sum(allowed)))
    if solid:
        return _explained(facts, solid, _by_what(mine, theirs, solid[0]))
    notes = [*_reproduced(*read), *_silent(mine, theirs, values), *_weak(_best(candidates))]
    return replace(facts, notes=tuple(notes))


def _same(mine: float, theirs: float, allowed: float) -> bool:
    if mine == theirs or (np.isnan(mine) and np.isnan(theirs)):
        return True
    return bool(np.isfinite([mine, theirs]).all()) and abs(mine - theirs) <= allowed * max(abs(mine), abs(theirs))


def _candidates(mine: list[Reading], theirs: list[Reading]) -> list[Candidate]:
    found = []
    for a, b in product(mine, theirs):
        common = sum(i == j != 0 and not axis.choices[i].free for axis, i, j in zip(AXES, *_pair(a, b), strict=True))
        causes = _causes(a.convention, b.convention)
        if causes:
            effort = len(causes) + COMMON * common
            by_chance = max(a.chance, b.chance)
            if _factors(a.convention, b.convention):
                by_chance = max(by_chance, UNSURE)
            # A number that has nothing to do with the inputs has to fit by itself: the other one does not help it.
            found.append(Candidate(causes, effort, by_chance, a.convention, b.convention))
    return found


def _factors(mine: Convention, theirs: Convention) -> bool:
    """Whether several factors and nothing else make the difference: then a third one would do as well."""
    differing = [
        axis.choices[i] for axis, *pair in zip(AXES, mine, theirs, strict=True) if pair[0] != pair[1] for i in pair if i
    ]
    return len(differing) > 1 and all(choice.scales for choice in differing)


def _pair(a: Reading, b: Reading) -> tuple[Convention, Convention]:
    return a.convention, b.convention


def _causes(mine: Convention, theirs: Convention) -> Causes:
    return tuple(
        _cause(axis.choices[i], side)
        for axis, *numbers in zip(AXES, mine, theirs, strict=True)
        if numbers[0] != numbers[1]
        for i, side in zip(numbers, ("mine", "theirs"), strict=True)
        if i
    )


def _cause(choice: Choice, side: str) -> Cause:
    where: Literal["mine", "theirs"] = "mine" if side == "mine" else "theirs"
    return Cause(choice.name, where, choice.does, choice.mend)


def _solid(candidates: list[Candidate]) -> list[Candidate]:
    """Those to be named, and those that are about as simple and fit as well, however rare: they could be it too."""
    likely = _best([c for c in candidates if c.chance <= LIKELY])
    rare = [c for c in candidates if c.chance > LIKELY]
    return _best(likely + rare, least=likely[0].effort) if likely else []


def _best(candidates: list[Candidate], least: float = 0.0) -> list[Candidate]:
    """The simplest first, then those of at most one cause more; each set of named causes once."""
    ranked = sorted(candidates, key=lambda c: (max(c.effort, least), _rank(c)))
    distinct = {_named(c): c for c in reversed(ranked) if c.effort <= max(ranked[0].effort, least) + 1}
    return [c for c in ranked if distinct.get(_named(c)) is c][:SHOWN]


def _named(candidate: Candidate) -> frozenset[tuple[str, str]]:
    """What tells causes apart: two forms of one cause on one side are no rivals."""
    return frozenset((cause.name, cause.side) for cause in candidate.causes)


def _rank(candidate: Candidate) -> tuple[bool, int, list[tuple[int, int]]]:
    """Doubtful ones behind likely ones, rarer forms behind the usual ones, then the order of the table."""
    both = [choice for convention in (candidate.mine, candidate.theirs) for choice in choices(convention)]
    pairs = enumerate(zip(candidate.mine, candidate.theirs, strict=True))
    places = [(axis, i) for axis, pair in pairs for i in pair if i]
    return candidate.chance > LIKELY, sum(not choice.usual for choice in both), places


def _by_ratio(mine: Number, theirs: Number, values: Values, allowed: float) -> list[Candidate]:
    """One factor between numbers that the inputs do not give: it depends on counts and options alone."""
    if not (mine.telling and theirs.telling) or DOCUMENTED not in values.conventions:
        return []
    base = values.losses[values.conventions.index(DOCUMENTED)]
    scaling = [i for i, c in enumerate(values.conventions) if [x.scales for x in choices(c)] == [True]]
    with np.errstate(all="ignore"):
        factors = values.losses[scaling] / base
    ratio = theirs.value / mine.value
    floor = max(mine.resolution + theirs.resolution, 2.0**-52)
    pool = _both(factors)
    around = match.density(ratio, 1.0, pool, np.ones_like(pool))
    found = []
    for sign, side in ((1, "theirs"), (-1, "mine")):
        with np.errstate(all="ignore"):
            distances = np.abs(factors**sign / ratio - 1)
        for i, distance in zip(scaling, distances.tolist(), strict=True):
            if distance <= allowed:
                by_chance = max(max(distance, floor) * around, UNSURE)
                (choice,) = choices(values.conventions[i])
                found.append(Candidate((_cause(choice, side),), 1, by_chance, DOCUMENTED, DOCUMENTED))
    return [c for c in found if c.chance <= RATIO_LIKELY]


def _both(factors: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.concatenate([factors, 1 / factors])


def _explained(facts: Explanation, found: list[Candidate], notes: tuple[str, ...]) -> Explanation:
    best, *others = found
    beforehand = BEFOREHAND[min(len(best.causes), len(BEFOREHAND) - 1)]
    confidence = beforehand / (beforehand + best.chance) / len(found)
    certainty = "certain" if best.chance <= CERTAIN else "likely"
    if others:
        certainty = "ambiguous with " + "; or with ".join(" and ".join(map(str, c.causes)) for c in others)
    alternatives = tuple(c.causes for c in others)
    return replace(
        facts,
        verdict="explained",
        causes=best.causes,
        alternatives=alternatives,
        confidence=confidence,
        certainty=certainty,
        chance=best.chance,
        notes=notes,
    )


def _by_what(mine: Number, theirs: Number, best: Candidate) -> tuple[str, ...]:
    if best.mine == best.theirs:
        return ("the inputs give neither number; only their ratio is explained",)
    shared = tuple(i if i == j else 0 for i, j in zip(best.mine, best.theirs, strict=True))
    notes = [f"both sides are {described(shared)} but for that"] if any(shared) else []
    if _factors(best.mine, best.theirs):
        ratio = theirs.value / mine.value
        notes.append(
            f"the two differ by a factor alone, {ratio:.7g}: any other factor of that size would look the same"
        )
    return tuple(notes)


def _reproduced(mine: list[Reading], theirs: list[Reading]) -> list[str]:
    """Which number is known, if the other one is not."""
    notes = []
    for side, found in (("mine", mine), ("theirs", theirs)):
        sure = [r for r in found if r.chance <= LIKELY]
        if sure:
            simplest = min(sure, key=lambda r: r.cost)
            notes.append(f"{side} is {described(simplest.convention)} of these inputs")
    if not (mine or theirs):
        notes.append("the inputs give neither number under any convention; check that both losses saw these inputs")
    return notes


def _silent(mine: Number, theirs: Number, values: Values) -> list[str]:
    notes = []
    for side, number in (("mine", mine), ("theirs", theirs)):
        if not number.telling:
            known = "; ".join(described(c) for c in match.alike(number.value, values)[:SHOWN])
            seen = f"it is also what comes of {known}" if known else "no convention gives it"
            notes.append(f"{side} is {number.value}, which has no digits to compare; {seen}")
    return notes


def _weak(found: list[Candidate]) -> list[str]:
    """Causes that fit numbers of too few digits to be believed."""
    if not found:
        return []
    fitting = "; ".join(" and ".join(map(str, c.causes)) for c in found)
    fitting = "; or ".join(" and ".join(map(str, c.causes)) for c in found[:FEW])
    return [
        f"the numbers have too few digits to be sure of it (unrelated ones fit as well in up to one of "
        f"{max(1 / found[0].chance, 1):.0f} cases), but this would reconcile them: {fitting}; compare losses in float64"
    ]
