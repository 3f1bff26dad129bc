"""One invariant after the other: does it hold, is it violated, or is it not applicable?"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from seqloss.testing.check import text
from seqloss.testing.check.finding import Finding
from seqloss.testing.check.shrinking import ENTRIES, Smallest, Violating, generator, smallest
from seqloss.testing.invariants import Invariant, InvariantViolation, NotApplicable, Subject
from seqloss.testing.invariants.batches import draw
from seqloss.testing.invariants.probe import Probe

WAYS = ("modes", "linear_modes", "layouts", "surroundings", "unrecorded")
"""The parts of a subject of which each entry has a verdict of its own."""

HALF = ("float16", "bfloat16")

CALLS, COMPILED_CALLS = 300, 20
"""The largest number of calls of a loss while an example is made smaller."""


def findings(subject: Subject, invariant: Invariant, seed: int) -> Iterator[Finding]:
    """The verdicts on one invariant: for each way to ask, or for each dtype that it is about."""
    if invariant.needs in WAYS:
        ways = getattr(subject, invariant.needs)
        calls = COMPILED_CALLS if invariant.needs in ("modes", "linear_modes") else CALLS
        for name, way in ways.items():
            one: dict[str, Any] = {invariant.needs: {name: way}}
            yield finding(replace(subject, **one), invariant, seed, name, "float32", calls)
        if not ways:
            yield finding(subject, invariant, seed, "-", "float32", calls)
        return
    first, found = _judged(subject, invariant, seed)
    yield first
    if invariant.half and subject.cast is not None:
        for dtype in filter(HALF.__contains__, subject.dtypes):
            yield _judged(subject.cast(dtype), invariant, seed, dtype=dtype, known=found)[0]


def not_asked(invariant: Invariant, reason: str) -> Finding:
    """The finding for an invariant that is not checked."""
    return Finding(invariant.name, "-", "float32", "not applicable", reason, invariant.summary)


def finding(
    subject: Subject,
    invariant: Invariant,
    seed: int,
    mode: str = "eager",
    dtype: str = "float32",
    calls: int = CALLS,
) -> Finding:
    """The verdict on one invariant."""
    return _judged(subject, invariant, seed, mode, dtype, calls)[0]


def _judged(
    subject: Subject,
    invariant: Invariant,
    seed: int,
    mode: str = "eager",
    dtype: str = "float32",
    calls: int = CALLS,
    known: Smallest | None = None,
) -> tuple[Finding, Smallest | None]:
    """The verdict and its example. One that is known from another dtype need not be looked for again."""
    probe = Probe(subject, invariant.name)
    batch = probe.drawn(invariant.draw, np.random.default_rng(seed))
    told = (invariant.name, mode, dtype)
    try:
        if dtype != "float32":
            _knows(probe, dtype)
        invariant.check(probe, batch, generator(seed))
    except NotApplicable as reason:
        return Finding(*told, "not applicable", str(reason), invariant.summary), None
    except InvariantViolation as violation:
        again = known and Violating(subject, invariant, seed, calls, violation)(known.batch)
        found = Smallest(known.batch, again) if known and again else None
        found = found or _smallest(subject, invariant, seed, calls, Smallest(batch, violation))
        example = _example(found.violation, dtype)
        detail = f"{example['what']}: {_line(example)}"
        return Finding(*told, "violated", detail, invariant.summary, example, found.violation.kind), found
    return Finding(*told, "holds", ", ".join(probe.notes), invariant.summary), None


def _smallest(subject: Subject, invariant: Invariant, seed: int, calls: int, start: Smallest) -> Smallest:
    """The smallest example, looked for by the quick form of the loss if that finds one."""
    if subject.quick is not None and not invariant.needs:
        quick = smallest(
            Violating(replace(subject, loss=subject.quick), invariant, seed, calls, start.violation), start
        )
        violation = None if quick is start else Violating(subject, invariant, seed, calls, start.violation)(quick.batch)
        if violation is not None:
            return Smallest(quick.batch, violation)
    return smallest(Violating(subject, invariant, seed, calls, start.violation), start)


def _knows(probe: Probe, dtype: str) -> None:
    """A loss that refuses a dtype makes no mistake in it."""
    answer = probe.attempt(probe.drawn(draw, np.random.default_rng(0)))
    if isinstance(answer, Exception):
        raise NotApplicable(f"{dtype} is refused: {type(answer).__name__}")


def _example(violation: InvariantViolation, dtype: str) -> dict[str, Any]:
    arrays = {} if violation.batch is None else violation.batch._asdict()
    told = {"what": violation.what, "expected": violation.expected, "got": violation.got}
    given = {
        key: _listed(value, "" if key == "targets" else dtype) for key, value in arrays.items() if value is not None
    }
    return {**{key: _listed(value) for key, value in told.items()}, **given}


def _listed(x: Any, dtype: str = "") -> Any:
    """An array as lists of Python numbers, as a text if it is long, with the dtype in which the loss was asked with it.

    Texts and tuples stay as they are.
    """
    if isinstance(x, (np.ndarray, np.generic)):
        x = np.asarray(x)
        if x.size > ENTRIES:
            return f"{dtype or x.dtype.name}{list(x.shape)}{_all_equal(x)}"
        return (x.astype(np.float64) if x.dtype.kind == "f" else x).tolist()
    return x


def _all_equal(x: Any) -> str:
    return f", all {x.flat[0] + 0:g}" if np.all(x == x.flat[0]) else ""


def _line(example: dict[str, Any]) -> str:
    """What came, in short; the report has the rest."""
    got = example["got"]
    return " ".join((got if isinstance(got, str) else text.numbers(got)).split())
