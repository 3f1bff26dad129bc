"""The explanation, as data and as text."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Side = Literal["mine", "theirs"]


@dataclass(frozen=True)
class Cause:
    """Something that one side does and the other side does not.

    Parameters
    ----------
    name : str
        The name of the cause.
    side : {"mine", "theirs"}
        The side that departs from the documented loss.
    does : str
        What that side does.
    mend : str
        What to change there.
    same : str
        What gives the same on the other side, where this one is a recording that cannot change; empty where nothing
        short does.
    """

    name: str
    side: Side
    does: str
    mend: str
    same: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.side})"

    @property
    def advice(self) -> tuple[str, ...]:
        """What to change, in the one side or in the other.

        Returns
        -------
        tuple of str
            ``in theirs: ...`` and, of a cause on that side, what to do in mine instead, if there is something.
        """
        there = f"in {self.side}: {self.mend}"
        return (there, f"or in mine: {self.same}") if self.side == "theirs" and self.same else (there,)


Causes = tuple[Cause, ...]


@dataclass(frozen=True)
class Explanation:
    """Why two losses of the same inputs differ.

    Parameters
    ----------
    mine, theirs : float
        The two numbers.
    verdict : {"same", "explained", "overflow", "undecided", "none"}
        Whether the numbers agree; differ by known causes; one of them is what remains of numbers that these inputs make
        too large for a dtype; something fits, but numbers of so few digits would fit something anyway; or they differ
        for none of the known reasons.
    causes : tuple of Cause
        What makes the numbers differ; empty unless the verdict is "explained" or "overflow".
    alternatives : tuple of tuples of Cause
        Other causes that do so just as well, because these inputs or these digits cannot tell them apart; what fits if
        the verdict is "undecided".
    confidence : float
        How likely the causes are the reason, from 0 to 1: shared evenly with the alternatives, minus the chance that
        unrelated numbers agree with these causes this closely. At most one half if the only sign of them is a bare
        factor, such as 2, or an overflow. It is 1 for numbers that agree, and 0 where no cause is named.
    certainty : str
        The same in words: "certain", "likely", "ambiguous with ...", each with a remark if the only sign is a bare
        factor; "undecided", "none of these" or "the same".
    chance : float
        How often unrelated numbers would fit one of the tried conventions this closely: an upper estimate.
    tried : int
        The number of conventions on each side whose causes apply to these inputs and change the loss.
    notes : tuple of str
        What else is known: which side the inputs reproduce, and what both sides have in common.

    See Also
    --------
    explain_mismatch : Returns it.
    """

    mine: float
    theirs: float
    verdict: Literal["same", "explained", "overflow", "undecided", "none"]
    causes: Causes = ()
    alternatives: tuple[Causes, ...] = ()
    confidence: float = 0.0
    certainty: str = "none of these"
    chance: float = 1.0
    tried: int = 0
    notes: tuple[str, ...] = field(default=())

    def report(self) -> str:
        """Say in plain text what differs, how sure that is, and what to change.

        Returns
        -------
        str
            Several lines.
        """
        width = max(len(repr(self.mine)), len(repr(self.theirs)))
        lines = [f"mine    {self.mine!r:>{width}}", f"theirs  {self.theirs!r:>{width}}", ""]
        lines += [*_lines(self.causes, mend=True), ""] if self.causes else []
        lines.append(conclusion(self))
        maybe = "It could also be this:" if self.causes else "It could be this:"
        for other in self.alternatives:
            lines += ["", maybe, *_lines(other, mend=False)]
        if self.causes and self.alternatives and self.verdict == "explained":
            lines += ["", f"To tell them apart: {TELLING}."]
        lines += [f"{'' if i else chr(10)}Note: {note}." for i, note in enumerate(self.notes)]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Everything in lists, strings and numbers, ready for JSON.

        Returns
        -------
        dict
            The fields by name. NaN and infinities are numbers here too.
        """
        plain = asdict(self)
        plain["causes"] = list(plain["causes"])
        plain["alternatives"] = [list(causes) for causes in plain["alternatives"]]
        plain["notes"] = list(plain["notes"])
        return plain


def conclusion(found: Explanation) -> str:
    """The verdict in one or two sentences, for the report and for the command line."""
    return f"{found.certainty[:1].upper()}{found.certainty[1:]}{_SAID[found.verdict](found)}"


NO_DIGITS = "a zero, a NaN or an infinity has no digits to compare"


def _explained(found: Explanation) -> str:
    often = f"{1 / max(found.chance, 1e-12):.0e}"
    return f". Unrelated numbers would fit one of {found.tried} conventions this closely once in {often} cases."


def _undecided(found: Explanation) -> str:
    often = f"in one of {1 / found.chance:.0f} cases" if found.chance < 0.5 else "nearly always"
    why = f"unrelated numbers with so few digits would fit as well {often}"
    if not all(math.isfinite(number) and number for number in (found.mine, found.theirs)):
        why = NO_DIGITS
    return f": {why}. Compare losses in float64, with all their digits."


_SAID: dict[str, Callable[[Explanation], str]] = {
    "same": lambda _: ": the numbers agree within their tolerance.",
    "explained": _explained,
    "overflow": lambda _: f": {NO_DIGITS}, but these inputs can lead to it.",
    "undecided": _undecided,
    "none": lambda found: f": no known cause and no pair of causes explains the difference ({found.tried} tried).",
}


TELLING = (
    "use inputs with padding, uneven lengths, weights other than 0 and 1, and a batch size, a length, a world size and "
    "accumulation steps that are all different, and numbers with all their digits"
)


def _lines(causes: Causes, mend: bool) -> list[str]:
    lines = []
    for cause in causes:
        lines.append(f"{cause.name}: {cause.side} {cause.does}.")
        if mend:
            lines += [f"    {advice[:1].upper()}{advice[1:]}." for advice in cause.advice]
    return lines
