"""The report of a comparison, for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqloss.testing.comparison.result import Comparison, Entry, Side, Spread

# Digits that tell neighbouring numbers apart.
_DIGITS = {"bfloat16": 4, "float16": 5, "float32": 9, "float64": 17}
_ABOUT_SCALE = "if a zero is a sum that cancelled, pass the size of its summands as scale="
_WHAT = {"nan": "NaN", "zeros": "exact zeros", "infinities": "infinities"}


def report(c: Comparison) -> str:
    """The lines of a :class:`seqloss.testing.Comparison`."""
    described = {problem: _PROBLEMS.get(problem, _places)(c, problem) for problem in c.problems}
    head, *others = [*described.values()] or [_same(c)]
    verdict = "same" if c.same else "DIFFERENT"
    lines = [f"{verdict}: {head}" if c.name is None else f"{c.name}: {verdict}: {head}"]
    lines += [f"  also      {line}" for line in others]
    lines += [f"  actual    {_side(c.actual)}", f"  expected  {_side(c.expected)}"]
    if c.first is not None and "values" in c.problems:
        lines.append(f"  first     {_entry(c, c.first)}")
    if c.worst is not None and (c.worst != c.first or "values" not in c.problems):
        lines.append(f"  worst     {_entry(c, c.worst)}")
    if c.ulp is not None:
        lines.append(f"  values    {_values(c)}")
    if c.differing_at_weight_0 is not None and c.differing:
        lines.append(f"  weights   {_at_weight_0(c)}")
    notes = [*c.notes, _ABOUT_SCALE] if "zeros" in c.problems and c.ulp_at_scale is None else c.notes
    lines += [f"  note      {note}" for note in notes]
    return "\n".join(" ".join(line.splitlines()).encode("ascii", "backslashreplace").decode() for line in lines)


def ulps(x: Any) -> str:
    """A distance in units of the last place, in a report and in every table."""
    return f"{x:.4g}"


def _same(c: Comparison) -> str:
    if not c.size:
        return "there are no entries to compare"
    what = "entry agrees" if c.size == 1 else "entries agree"
    return f"{c.size:,} {what} {'exactly' if c.dtype == 'int' else f'within {_bound(c)}'}"


def _bound(c: Comparison) -> str:
    text = f"{ulps(c.bound)} ULP of {c.compute}"
    return f"{text} and one rounding to {c.dtype}" if c.dtype != c.compute and c.bound else text


def _framework(c: Comparison, problem: str) -> str:
    return f"the framework is {c.actual.framework}, expected {c.expected.framework}"


def _shape(c: Comparison, problem: str) -> str:
    actual, expected = c.actual.shape, c.expected.shape
    text = f"the shape is {list(actual)}, expected {list(expected)}"
    if len(actual) > 1 and actual[:2] == expected[1::-1] and actual[2:] == expected[2:]:
        return f"{text}: the first two axes are swapped (time-major beside batch-major?)"
    if [n for n in actual if n != 1] == [n for n in expected if n != 1]:
        return f"{text}: an axis of size 1 is too many or missing"
    return text


def _dtype(c: Comparison, problem: str) -> str:
    return f"the dtype is {c.actual.dtype}, expected {c.expected.dtype}"


def _places(c: Comparison, problem: str) -> str:
    places = getattr(c, problem)
    return (
        f"{_WHAT[problem]} in other places: {_count(places.differing, c.size)} differ{'s' * (places.differing == 1)} "
        f"({places.actual:,} in actual, {places.expected:,} in expected); first {_entry(c, places.first)}"
    )


def _beyond(c: Comparison, problem: str) -> str:
    told = sum(places.differing for places in (c.nan, c.zeros, c.infinities) if places is not None)
    number = c.differing - told
    entries = f"{_count(number, c.size)} differ{'s' * (number == 1)}"
    return (
        f"{entries}, by at most {c.largest_difference:g}" if c.dtype == "int" else f"{entries} by more than {_bound(c)}"
    )


_PROBLEMS: dict[str, Callable[[Any, str], str]] = {
    "framework": _framework,
    "shape": _shape,
    "dtype": _dtype,
    "values": _beyond,
}


def _count(some: int, of: int) -> str:
    return f"{some:,} of {of:,} entr{'y' if of == 1 else 'ies'}"


def _side(side: Side) -> str:
    device = "" if side.device is None else f" on {side.device}"
    owner = "" if side.type.startswith(side.framework) or side.framework == "python" else f" ({side.framework})"
    return f"{side.type}{owner} {side.dtype} {list(side.shape)}{device}"


def _entry(c: Comparison, entry: Entry) -> str:
    place = f"{list(entry.index)}" if entry.index else "it"
    text = f"{place} is {_number(c.actual, entry.actual)}, expected {_number(c.expected, entry.expected)}"
    if entry.ulp is not None:
        text += f": {ulps(entry.ulp)} ULP, {ulps(entry.allowed)} allowed"
    at = [
        f"{what} {value:.9g}" for what, value in (("label", entry.label), ("weight", entry.weight)) if value is not None
    ]
    return f"{text} ({', '.join(at)})" if at else text


def _number(side: Side, x: Any) -> str:
    return f"{x:.{_DIGITS.get(side.dtype, 17)}g}" if isinstance(x, float) else str(x)


def _values(c: Comparison) -> str:
    spreads = {f"ULP of {c.dtype}": c.ulp, "at scale": c.ulp_at_scale}
    texts = [f"{what}: {_spread(spread)}" for what, spread in spreads.items() if spread is not None]
    return "; ".join([*texts, f"relative to the largest: {c.relative_to_largest:.3g}"])


def _spread(spread: Spread) -> str:
    return f"max {ulps(spread.max)}, p99 {ulps(spread.p99)}, median {ulps(spread.median)}"


def _at_weight_0(c: Comparison) -> str:
    if c.differing_at_weight_0 == c.differing:
        return "all that differ are at tokens of weight 0"
    return f"{c.differing_at_weight_0:,} of the {c.differing:,} that differ are at tokens of weight 0"
