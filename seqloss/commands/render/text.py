"""For people: ASCII, which every terminal and log can show, or rich's table where it is installed and seen."""

import sys
from importlib.util import find_spec
from typing import Any

from seqloss.commands.report import Column, Report

_COLOURS = {"good": "green", "bad": "bold red", "neutral": "dim"}


def show(report: Report) -> None:
    """Print to stdout: in colour on a terminal if rich is there, else the plain text."""
    if sys.stdout.isatty() and find_spec("rich") is not None:
        _show_in_colour(report)
    else:
        print(render(report))


def render(report: Report) -> str:
    """Facts, table, problems, conclusion, notes."""
    lines = [*_facts(report), "", *_table(report), ""]
    lines += [part for problem in report.problems for part in _hanging(problem)]
    lines += [""] * bool(report.problems)
    lines += [report.conclusion, *report.notes]
    return "\n".join(ascii_line(line) for line in lines)


def ascii_line(text: str) -> str:
    """One line of ASCII: what it cannot show is escaped, control characters too."""
    one = " ".join(text.splitlines()).encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in one)


def _hanging(problem: str) -> list[str]:
    """The lines of a problem; all but the first are indented."""
    first, *others = problem.splitlines() or [""]
    return [first, *[f"  {line}" for line in others]]


def _facts(report: Report) -> list[str]:
    width = max((len(name) for name, _ in report.facts), default=0)
    return [f"{name:{width}}  {text}" for name, text in report.facts]


def _table(report: Report) -> list[str]:
    heads = [ascii_line(column.head) for column in report.columns]
    lines = [heads, *[[ascii_line(cell) for cell in row.cells] for row in report.rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return ["  ".join(map(_aligned, line, widths, report.columns)).rstrip() for line in lines]


def _aligned(cell: str, width: int, column: Column) -> str:
    return cell.rjust(width) if column.is_number else cell.ljust(width)


def _show_in_colour(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Nothing is markup: a file may have any name, and a framework may say anything.
    console = Console(highlight=False, markup=False, emoji=False)
    for line in _facts(report):
        console.print(ascii_line(line), soft_wrap=True)
    table: Any = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in report.columns:
        table.add_column(Text(ascii_line(column.head)), justify="right" if column.is_number else "left")
    for row in report.rows:
        table.add_row(*[Text(ascii_line(cell)) for cell in row.cells], style=_COLOURS[row.status])
    console.print()
    console.print(table)
    console.print()
    for problem in report.problems:
        for line in _hanging(problem):
            console.print(ascii_line(line), style="red", soft_wrap=True)
    if report.problems:
        console.print()
    console.print(ascii_line(report.conclusion), style="bold green" if report.same else "bold red", soft_wrap=True)
    for note in report.notes:
        console.print(ascii_line(note), style="dim", soft_wrap=True)
