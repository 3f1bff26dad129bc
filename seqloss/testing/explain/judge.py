"""From what each number fits to one verdict."""

from dataclasses import replace
from itertools import chain, product

import numpy as np

from seqloss.testing.explain import match
from seqloss.testing.explain.candidates import (
    CERTAIN,
    SHOWN,
    Candidate,
    best,
    by_ratio,
    cause,
    of_readings,
    solid,
)
from seqloss.testing.explain.causes import SIGN
from seqloss.testing.explain.digits import Number
from seqloss.testing.explain.match import LIKELY, Reading
from seqloss.testing.explain.overflow import NARROWEST, overflows
from seqloss.testing.explain.result import Causes, Explanation, Side
from seqloss.testing.explain.values import Values, described

BEFOREHAND = (0.5, 0.5, 0.1, 0.02, 0.01)
"""How likely this many causes are before the numbers are seen, relative to none of these."""

ELSEWHERE = 0.5
"""How likely it is that a bare factor, or an infinity, has a reason that is not in the table."""

OFFERED = 3
"""How many of the causes that fit equally well are shown."""


def judge(mine: Number, theirs: Number, values: Values, dtype: str, rtol: float | None) -> Explanation:
    """Compare, read each number, and name the fewest causes that make them differ."""
    allowed = [match.tolerance(number, values, dtype, rtol) for number in (mine, theirs)]
    facts = Explanation(mine.value, theirs.value, "none", tried=len(values.conventions))
    if _same(mine.value, theirs.value, max(allowed)):
        return replace(facts, verdict="same", confidence=1.0, certainty="the same", chance=0.0)
    read = match.readings(mine, theirs, values, allowed[0]), match.readings(theirs, mine, values, allowed[1])
    with np.errstate(all="ignore"):
        ratio = float(np.divide(theirs.value, mine.value))
    candidates = of_readings(*read, values, ratio, sum(allowed))
    named = solid(candidates) or by_ratio(mine, theirs, values, sum(allowed))
    if named:
        return _explained(facts, named, ratio, known=any(read))
    notes = _reproduced(*read)
    beyond = _beyond(mine, theirs, values)
    if beyond:
        return _overflow(facts, beyond, notes)
    if candidates:
        return _undecided(facts, best(candidates), notes)
    return replace(facts, notes=(*notes, *_silent(facts, *read)))


def _same(mine: float, theirs: float, allowed: float) -> bool:
    if mine == theirs or (np.isnan(mine) and np.isnan(theirs)):
        return True
    return bool(np.isfinite([mine, theirs]).all()) and abs(mine - theirs) <= allowed * max(abs(mine), abs(theirs))


def _explained(facts: Explanation, found: list[Candidate], ratio: float, known: bool) -> Explanation:
    first = found[0]
    beforehand = BEFOREHAND[min(len(first.causes), len(BEFOREHAND) - 1)]
    doubt = first.chance + (ELSEWHERE if first.bare else 0)
    causes, *others = (candidate.causes for candidate in found)
    certainty = _ambiguous(others) or ("certain" if first.chance <= CERTAIN else "likely")
    if first.bare:
        certainty += f"; a bare factor of {ratio:.7g} can have many reasons"
    return replace(
        facts,
        verdict="explained",
        causes=causes,
        alternatives=tuple(others),
        confidence=beforehand / (beforehand + doubt) / len(found),
        certainty=certainty,
        chance=first.chance,
        notes=_shared(first, known),
    )


def _ambiguous(others: list[Causes]) -> str:
    listed = "; or with ".join(" and ".join(map(str, causes)) for causes in others)
    return f"ambiguous with {listed}" if listed else ""


def _shared(first: Candidate, known: bool) -> tuple[str, ...]:
    """What both sides do; or, if only the ratio was explained, why."""
    if first.mine == first.theirs:
        neither = "no convention gives either number; only their ratio is explained"
        return ("only the ratio of the two numbers shows it" if known else neither,)
    shared = tuple(i if i == j else 0 for i, j in zip(first.mine, first.theirs, strict=True))
    return (f"apart from that, both sides are {described(shared)}",) if any(shared) else ()


def _beyond(mine: Number, theirs: Number, values: Values) -> list[Causes]:
    """For each number without digits, a way in which these inputs lead to it: every choice of such ways."""
    sides: list[list[Causes]] = []
    named: tuple[tuple[Side, Number], ...] = (("mine", mine), ("theirs", theirs))
    for side, number in named:
        turned = (cause(SIGN.choices[1], side, values.known),) if number.value == -np.inf else ()
        ways: list[Causes] = [(way, *turned) for way in overflows(number, side, values.sizes)]
        sides += [ways] if ways else []
    return [tuple(chain(*chosen)) for chosen in product(*sides)] if sides else []


def _overflow(facts: Explanation, ways: list[Causes], notes: list[str]) -> Explanation:
    causes, *others = ways[:SHOWN]
    return replace(
        facts,
        verdict="overflow",
        causes=causes,
        alternatives=tuple(others),
        confidence=BEFOREHAND[1] / (BEFOREHAND[1] + ELSEWHERE) / len(ways),
        certainty=_ambiguous(others) or "likely",
        notes=tuple(notes),
    )


def _undecided(facts: Explanation, found: list[Candidate], notes: list[str]) -> Explanation:
    """Something fits, but numbers of so few digits fit something anyway."""
    return replace(
        facts,
        verdict="undecided",
        alternatives=tuple(candidate.causes for candidate in found[:OFFERED]),
        certainty="undecided",
        chance=min(found[0].chance, 1.0),
        notes=tuple(notes),
    )


def _reproduced(mine: list[Reading], theirs: list[Reading]) -> list[str]:
    """Which number is known, if the other one is not."""
    notes = []
    for side, found in (("mine", mine), ("theirs", theirs)):
        sure = [r for r in found if r.chance <= LIKELY]
        if sure:
            simplest = min(sure, key=lambda r: r.cost)
            notes.append(f"{side} is {described(simplest.convention)} of these inputs")
    if not (mine or theirs):
        notes.append("no convention gives either number; check that both losses saw these inputs")
    return notes


def _silent(facts: Explanation, mine: list[Reading], theirs: list[Reading]) -> list[str]:
    """What can be said of a number without digits."""
    notes = []
    for side, value, found in (("mine", facts.mine, mine), ("theirs", facts.theirs, theirs)):
        if not np.isfinite(value) or value == 0:
            known = "; ".join(described(reading.convention) for reading in found[:SHOWN])
            nothing = f"no convention gives it, and nothing on the way is too large for {NARROWEST}"
            seen = f"the inputs also give it as {known}" if known else nothing
            notes.append(f"{side} is {value}, which has no digits to compare; {seen}")
    return notes
