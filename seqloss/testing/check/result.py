"""What a check of a loss found."""

from dataclasses import asdict, dataclass
from typing import Any

from seqloss.core.smoothing import Smoothing
from seqloss.testing.check import text
from seqloss.testing.check.conventions import Conventions
from seqloss.testing.check.finding import Finding
from seqloss.testing.strict import jsonable


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
        return text.report(self.name, self.backend, self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The findings as one object of strict JSON.

        Returns
        -------
        dict
            The attributes by name, with "holds" in front. Floats that are not finite are the strings "nan", "inf" and
            "-inf", which ``float`` reads.
        """
        given = asdict(self)
        if isinstance(self.conventions.label_smoothing, Smoothing):
            given["conventions"]["label_smoothing"] = self.conventions.label_smoothing._asdict()
        plain: dict[str, Any] = jsonable({"holds": self.holds, **given})
        return plain
