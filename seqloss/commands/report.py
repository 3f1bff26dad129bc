"""What a command has to say, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Array = Any
Status = Literal["good", "bad", "neutral"]


class Column(NamedTuple):
    """The head of a column, and whether it holds numbers, which are aligned to the right."""

    head: str
    is_number: bool = False


class Row(NamedTuple):
    """A line of the table: a backend, a file, an invariant, a cause."""

    name: str
    """What the line is about, unique in the report."""
    cells: Sequence[str]
    status: Status = "neutral"
    problems: Sequence[str] = ()
    """Sentences that name what they are about. Only the first line of each is in the terminal's margin."""
    is_error: bool = False
    """Whether there was nothing to judge: a backend crashed or timed out. Such a row is "bad" too."""


class Scatter(NamedTuple):
    """Points, a colour for each series, on logarithmic axes."""

    title: str
    caption: str
    x_label: str
    y_label: str
    series: Mapping[str, tuple[Array, Array]]
    limit: float | None = None
    """A height at which a line is drawn."""


class Histogram(NamedTuple):
    """How many entries of each series lie where, on a logarithmic axis."""

    title: str
    caption: str
    x_label: str
    series: Mapping[str, Array]
    limit: float | None = None


class HeatMap(NamedTuple):
    """Numbers by row and time, on a logarithmic scale of colours; NaN is left blank."""

    title: str
    caption: str
    scale_label: str
    values: Array
    mark: tuple[int, int] | None = None
    """The place that is marked, as row and time."""


Figure = Scatter | Histogram | HeatMap


@dataclass(frozen=True)
class Report:
    """Everything in a report; the renderers add nothing of their own."""

    command: str
    title: str
    facts: Sequence[tuple[str, str]]
    columns: Sequence[Column]
    rows: Sequence[Row]
    conclusion: str
    same: bool
    data: Mapping[str, Any]
    """What ``--json`` prints beside the command and the verdict, as ``testing.strict`` makes it."""
    notes: Sequence[str] = ()
    figures: Sequence[Figure] = field(default=())

    @property
    def problems(self) -> list[str]:
        """Those of all rows."""
        return [problem for row in self.rows for problem in row.problems]

    @property
    def status(self) -> int:
        """The exit status: 0 if all is the same, else 1."""
        return 0 if self.same else 1
