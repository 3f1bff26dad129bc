"""What came out, as data and as text."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from seqloss.testing.explain.values import Convention, choices


@dataclass(frozen=True)
class Cause:
    """What one side does and the other one does not.

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
    """

    name: str
    side: Literal["mine", "theirs"]
    does: str
    mend: str

    def __str__(self) -> str:
        return f"{self.name} ({self.side})"


Causes = tuple[Cause, ...]


@dataclass(frozen=True)
class Explanation:
    """Why two losses of the same inputs differ.

    Parameters
    ----------
    mine, theirs : float
        The two numbers.
    verdict : {"same", "explained", "none"}
        Whether the numbers agree, differ by known causes, or differ for none of the known reasons.
    causes : tuple of Cause
        What reconciles the numbers; empty unless the verdict is "explained".
    alternatives : tuple of tuples of Cause
        Other causes that do so just as well, because these inputs or these digits cannot tell them apart.
    confidence : float
        How likely the causes are the reason, from 0 to 1: shared evenly with the alternatives, and less the chance
        that numbers which have nothing to do with these causes agree with them this closely. It is 1 for numbers that
        agree, and 0 where nothing explains them.
    certainty : str
        The same in words: "certain", "likely", "ambiguous with ...", "none of these" or "the same".
    chance : float
        How often unrelated numbers would fit one of the tried conventions this closely: an upper estimate.
    tried : int
        The number of conventions that were tried on each side.
    notes : tuple of str
        What is known beside: which side the inputs reproduce, and what would fit if there were more digits.

    See Also
    --------
    explain_mismatch : Makes it.
    """

    mine: float
    theirs: float
    verdict: Literal["same", "explained", "none"]
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
        if self.verdict == "same":
            lines.append("The same: the numbers agree within their tolerance.")
        elif self.verdict == "none":
            lines.append(f"None of these: no known cause, nor a pair of them, reconciles the two ({self.tried} tried).")
        else:
            lines += _lines(self.causes, mend=True)
            lines += ["", f"{self.certainty[:1].upper()}{self.certainty[1:]}. {self._odds()}"]
            for other in self.alternatives:
                lines += ["", "It may as well be this:", *_lines(other, mend=False)]
            if self.alternatives:
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

    def _odds(self) -> str:
        return (
            f"{self.tried} conventions were tried on each side; unrelated numbers would agree with one of them this "
            f"closely once in {1 / max(self.chance, 1e-12):.0e} cases."
        )


TELLING = (
    "use inputs with padding, uneven lengths, weights other than 0 and 1, and a batch size, a length, a world size and "
    "accumulation steps that are all different, and numbers with all their digits"
)


def _lines(causes: Causes, mend: bool) -> list[str]:
    lines = []
    for cause in causes:
        lines.append(f"{cause.name}: {cause.side} {cause.does}.")
        if mend:
            lines.append(f"    In {cause.side}: {cause.mend}.")
    return lines


def described(convention: Convention) -> str:
    names = " and ".join(choice.name for choice in choices(convention))
    return f"the documented weighted mean with {names}" if names else "the documented weighted mean"
