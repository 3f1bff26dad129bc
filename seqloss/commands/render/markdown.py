"""For pull requests and job summaries: GitHub's Markdown."""

import re
from collections.abc import Sequence

from seqloss.commands.report import Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
_MARKS = {"good": "✅", "bad": "❌", "neutral": "➖"}  # noqa: RUF001


def render(report: Report) -> str:
    """A heading, the facts as a list, the table, what is wrong, the conclusion."""
    columns = report.columns
    lines = [f"## {escaped(report.title)}", ""]
    lines += [f"- **{escaped(name)}**: {escaped(text)}" for name, text in report.facts]
    lines += ["", _line(["", *[escaped(column.head) for column in columns]])]
    lines += [_line(["---", *["---:" if column.is_number else "---" for column in columns]])]
    lines += [_line([_MARKS[row.status], *map(escaped, row.cells)]) for row in report.rows]
    if report.problems:
        lines += ["", *[f"- {_broken(problem)}" for problem in report.problems]]
    lines += ["", f"**{escaped(report.conclusion)}**", *[f"\n{escaped(note)}" for note in report.notes]]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """One line in which nothing is markup and no pipe ends a cell."""
    one = " ".join("".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in text).split())
    return _SPECIAL.sub(r"\\\1", one)


def _broken(problem: str) -> str:
    """The lines of a problem, which all stay in its item of the list."""
    return "<br>".join(escaped(line) for line in problem.splitlines())


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
