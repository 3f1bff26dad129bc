"""What a check of a loss found."""

from dataclasses import asdict, dataclass
from typing import Any

from seqloss.testing.check import text
from seqloss.testing.check.conventions import Conventions
from seqloss.testing.strict import jsonable


@dataclass(frozen=True)
class Finding:
    """The verdict on one invariant.

    Parameters
    ----------
    invariant : str
        Its name.
    mode : str
        How the loss was run: "eager", or the name of a compiler.
    dtype : str
        The dtype of logits and weights.
    verdict : {"holds", "violated", "not applicable"}
        Whether the loss has what every right loss has.
    detail : str
        What came instead, why it is not applicable, or "".
    summary : str
        What must hold.
    example : dict or None
        If it is violated, the smallest batch that was found: "logits" [batch][time][classes], "targets" and "weights"
        [batch][time] as lists (as a text where they are long), "what" was looked at, and what was "expected" and
        "got".
    kind : {"", "numbers", "refusal", "digits"}
        If it is violated, how: a result is wrong; what should have been refused got an answer, as a label that is no
        class, or a second derivative that does not exist; or only digits are lost, which the dtype would have had.
    """

    invariant: str
    mode: str
    dtype: str
    verdict: str
    detail: str
    summary: str
    example: dict[str, Any] | None = None
    kind: str = ""


@dataclass(frozen=True)
class LossCheck:
    """What :func:`seqloss.testing.check_loss` found; true if no invariant is violated.

    Parameters
    ----------
    name : str
        The loss that was checked.
    backend : str
        Its framework.
    conventions : Conventions
        How it was called.
    seed : int
        The seed of all random arrays.
    findings : tuple of Finding
        One for each invariant, way to run and dtype.
    """

    name: str
    backend: str
    conventions: Conventions
    seed: int
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether no invariant is violated.

        Returns
        -------
        bool
            The same as the truth of this object.
        """
        return all(finding.verdict != "violated" for finding in self.findings)

    def __bool__(self) -> bool:
        return self.holds

    def report(self) -> str:
        """A table of the verdicts, and every violation with its smallest example.

        Returns
        -------
        str
            Lines of ASCII.
        """
        return text.report(self)

    def as_dict(self) -> dict[str, Any]:
        """The findings as one object of strict JSON.

        Returns
        -------
        dict
            The attributes by name, with "holds" in front. Floats that are not finite are the strings "nan", "inf" and
            "-inf", which ``float`` reads.
        """
        plain: dict[str, Any] = jsonable({"holds": self.holds, **asdict(self)})
        return plain
