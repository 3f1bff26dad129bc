"""From what was measured to what is told."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from seqloss.testing.comparison.measure import Measured, Rules, measured
from seqloss.testing.comparison.result import Comparison, Entry, Places, Spread
from seqloss.testing.comparison.sides import Read

Array = Any


def findings(
    found: Comparison, actual: Read, expected: Read, rules: Rules, tokens: dict[str, Array | None]
) -> tuple[Comparison, Measured]:
    """Add the differences of two arrays of one shape to what is known of the two sides, with the numbers of each entry.

    ``tokens`` holds the labels and weights as "label" and "weight".
    """
    a, e = actual.values, expected.values
    entries = _Entries(a, e, rules, measured(a, e, rules), tokens)
    m = entries.measured
    wrong = np.logical_or.reduce([*m.wrong.values()])
    weights = tokens["weight"]
    largest = float(m.difference.max(initial=0)) if m.finite.any() else None
    told = replace(
        found,
        problems=(*found.problems, *(problem for problem, places in m.wrong.items() if places.any())),
        size=a.size,
        nan=entries.places(np.isnan, "nan"),
        zeros=entries.places(lambda x: x == 0, "zeros"),
        infinities=entries.places(np.isinf, "infinities"),
        ulp=None if rules.dtype == "int" else _spread(m.ulp[m.finite]),
        ulp_at_scale=None if m.at_scale is None else _spread(m.at_scale[m.finite]),
        largest_difference=largest,
        relative_to_largest=None if largest is None else _relative(largest, e),
        differing=int(wrong.sum()),
        differing_at_weight_0=None if weights is None else _at_weight_0(wrong.reshape(a.shape), weights),
        first=entries.first(wrong),
        worst=entries.worst(),
        notes=(*found.notes, *_notes(a, e)),
    )
    return told, m


class _Entries:
    """Picks single entries out of the two arrays."""

    def __init__(self, a: Array, e: Array, rules: Rules, m: Measured, tokens: dict[str, Array | None]) -> None:
        self.a, self.e, self.rules, self.measured, self.tokens = a, e, rules, m, tokens

    def entry(self, at: int) -> Entry:
        index = tuple(int(i) for i in np.unravel_index(at, self.a.shape))
        ulp = allowed = None
        if self.rules.dtype != "int" and self.measured.finite[at]:
            ulp, fraction = float(self.measured.ulp[at]), float(self.measured.fraction[at])
            # Where nothing is off there is no fraction to divide by.
            allowed = ulp / fraction if fraction else float(self.rules.bound.flat[at])
        numbers = {
            what: None if array is None else array[index[: array.ndim]].item() for what, array in self.tokens.items()
        }
        return Entry(index, _python(self.a[index]), _python(self.e[index]), ulp, allowed, **numbers)

    def first(self, chosen: Array) -> Entry | None:
        return self.entry(int(chosen.argmax())) if chosen.any() else None

    def worst(self) -> Entry | None:
        m = self.measured
        if not m.difference.any():
            return None
        top = np.flatnonzero(m.fraction == m.fraction.max())
        return self.entry(int(top[m.difference[top].argmax()]))

    def places(self, special: Any, problem: str) -> Places:
        wrong = self.measured.wrong[problem]
        return Places(int(special(self.a).sum()), int(special(self.e).sum()), int(wrong.sum()), self.first(wrong))


def _python(x: Any) -> Any:
    """A number as Python's; the item of a longdouble would stay one."""
    return float(x) if x.dtype.kind == "f" else x.item()


def _spread(ulps: Array) -> Spread | None:
    if not ulps.size:
        return None
    # As np.quantile(method="higher"), without sorting the zeros, which most distances are.
    above = ulps[ulps > 0]
    zeros, last = ulps.size - above.size, ulps.size - 1
    ranks = {name: math.ceil(last * q) - zeros for name, q in (("max", 1.0), ("p99", 0.99), ("median", 0.5))}
    wanted = sorted({rank for rank in ranks.values() if rank >= 0})
    if wanted:
        above.partition(wanted)
    return Spread(**{name: float(above[rank]) if rank >= 0 else 0.0 for name, rank in ranks.items()})


def _relative(difference: float, expected: Array) -> float:
    sizes = np.abs(expected[np.isfinite(expected)].astype(np.longdouble))
    largest = float(sizes.max(initial=0))
    return difference / largest if largest else difference and float("inf")


def _at_weight_0(wrong: Array, weights: Array) -> int:
    return int((wrong & (weights == 0).reshape(weights.shape + (1,) * (wrong.ndim - weights.ndim))).sum())


def notes_on_sides(actual: Read, expected: Read) -> tuple[str, ...]:
    """What the two sides differ in and may."""
    one, other = actual.side, expected.side
    if one.framework == other.framework and one.device != other.device:
        return (f"actual is on {one.device}, expected on {other.device}",)
    return ()


def _notes(a: Array, e: Array) -> list[str]:
    notes = []
    signs = (
        int(((a == 0) & (e == 0) & (np.signbit(a) != np.signbit(e))).sum())
        if a.dtype.kind == e.dtype.kind == "f"
        else 0
    )
    if signs:
        notes.append(f"{signs:,} zero{'s have' if signs > 1 else ' has'} the other sign, which counts as equal")
    if a.size and (np.isnan(a) & np.isnan(e)).all():
        notes.append("every entry is NaN on both sides")
    return notes
