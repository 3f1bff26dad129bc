"""``golden check``: the report on golden files."""

import argparse
from typing import Any

from seqloss.commands import backends, functions, golden_explain, golden_figures, output, processes
from seqloss.commands.golden import told_flags
from seqloss.commands.report import Column, Report, Row
from seqloss.core import extras
from seqloss.core.errors import OptionError
from seqloss.testing import golden
from seqloss.testing.comparison.text import ulps

_COLUMNS = (
    Column("file"),
    Column("backend"),
    Column("result"),
    Column("dtype"),
    Column("worst ULP", True),
    Column("allowed", True),
    Column("verdict"),
)


def check(options: argparse.Namespace) -> Report:
    """Read the files, have each backend compute them again, and report."""
    if options.bound is not None and not 0 <= options.bound < float("inf"):
        raise OptionError(f"--bound must be at least 0 and finite, got {options.bound:g}")
    # A file that cannot be used is an error of the request, noticed before anything is computed.
    files = {str(path): golden.read(path) for path in dict.fromkeys(options.files)}
    if options.compute is not None and options.backends is None:
        options.backends = functions.framework(options.compute)
    choice = backends.select(options)
    drawn = output.has_figures(options)
    job_options = {"files": list(files), "bound": options.bound, "figures": drawn, "compute": options.compute}
    entry = "seqloss.commands.golden_jobs:check"
    outcomes = list(processes.run_each(choice, entry, job_options, options.timeout))
    if options.compute is not None:
        for outcome in outcomes:
            if outcome.refusal is not None:
                raise OptionError(outcome.refusal)
    rows = [row for path, one in files.items() for outcome in outcomes for row in _rows(path, one, outcome)]
    proposed = golden_explain.propose(files, outcomes)
    rows += [
        Row(name, ("-", name, "-", "-", "-", "-", f"not installed: {extras.command(name)}")) for name in choice.missing
    ]
    _check_that_something_was_compared(files, outcomes)
    compared = [row for row in rows if row.status != "neutral"]
    good = sum(row.status == "good" for row in compared)
    many = "comparison" if len(compared) == 1 else "comparisons"
    return Report(
        "golden check",
        "Recorded losses, computed again",
        [fact for path, one in files.items() for fact in _facts(path, one)] + _function(options),
        _COLUMNS,
        rows,
        f"{good} of {len(compared)} {many} with the recording agree{'s' * (good == 1)}.",
        good == len(compared),
        {
            "files": {path: _about(one) for path, one in files.items()},
            "compute": options.compute,
            "backends": [_data(outcome) for outcome in outcomes],
            "explain": proposed,
        },
        [f"To find out why the losses differ: {line}" for line in proposed],
        figures=golden_figures.draw(files, outcomes) if drawn else (),
    )


def _check_that_something_was_compared(files: dict[str, Any], outcomes: list[processes.Outcome]) -> None:
    for path in files:
        refused = [o.facts["files"][path].get("refused") for o in outcomes if o.failure is None]
        if refused and None not in refused and len(refused) == len(outcomes):
            raise OptionError(f"{path}: {refused[0]}")


def _facts(path: str, one: golden.Golden) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {version}" for name, version in one.versions.items())
    note = f": {one.note}" if one.note else ""
    return [(path, f"{one.function} with {told_flags(one.flags)}, recorded by {versions}{note}")]


def _function(options: argparse.Namespace) -> list[tuple[str, str]]:
    return [] if options.compute is None else [("compute", options.compute)]


def _about(one: golden.Golden) -> dict[str, Any]:
    names = ("function", "flags", "note", "versions", "device", "dtypes", "sha256")
    return {name: getattr(one, name) for name in names}


def _rows(path: str, one: golden.Golden, outcome: processes.Outcome) -> list[Row]:
    name = outcome.framework
    if outcome.failure is not None:
        cells = (path, name, "-", "-", "-", "-", outcome.failure.upper())
        return [Row(f"{path} {name}", cells, "bad", [f"{path} {name} {outcome.failure}: {outcome.detail}"], True)]
    found = outcome.facts["files"][path]
    if "refused" in found:
        return [Row(f"{path} {name}", (path, name, "-", "-", "-", "-", f"not compared: {found['refused']}"))]
    if "raised" in found:
        cells = (path, name, "-", "-", "-", "-", "RAISED")
        return [Row(f"{path} {name}", cells, "bad", [f"{path} {name} raised {found['raised']}"], True)]
    rows = [_row(path, name, result, comparison) for result, comparison in found["results"].items()]
    left_out = [result for result in one.results if result not in found["results"]]
    return rows + [
        Row(f"{path} {name} {result}", (path, name, result, "-", "-", "-", "not computed")) for result in left_out
    ]


def _row(path: str, backend: str, result: str, found: dict[str, Any]) -> Row:
    cells = (path, backend, result, found["actual"]["dtype"], *_distance(found))
    where = f"{path} {backend} {result}"
    if found["same"]:
        return Row(where, (*cells, "agrees"), "good")
    return Row(where, (*cells, "DISAGREES"), "bad", [f"{path} {backend}: {found['report']}"])


def _distance(found: dict[str, Any]) -> tuple[str, str]:
    """The error of the worst entry and what is allowed there, in the form of the report."""
    if found["ulp"] is None:  # integers, other shapes, or nothing that is finite
        return "-", "-"
    worst = found["worst"] or {"ulp": 0, "allowed": found["bound"]}
    return ulps(float(worst["ulp"])), ulps(float(worst["allowed"]))


def _data(outcome: processes.Outcome) -> dict[str, Any]:
    return {
        "backend": outcome.framework,
        "status": outcome.failure or "ran",
        "detail": outcome.detail or None,
        **outcome.facts,
    }
