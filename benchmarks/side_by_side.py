"""Contenders of one framework against each other, in this process."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks import contenders, tables, timing
from benchmarks.contenders import Batch, Contender

Row = dict[str, Any]


def race(framework: str, batch: Batch, modes: Iterable[str], rounds: int) -> list[Row]:
    """Time the contenders of these modes, round-robin. One whose package is missing is named in its row."""
    module = contenders.load(framework)
    placed = module.place(batch)
    calls: dict[Contender, timing.Call] = {}
    missing: dict[Contender, str | None] = {}
    reference: Any = None
    for each in chosen(framework, modes):
        call = each.setup(*placed)
        try:
            result = _excerpt(call())
        except ModuleNotFoundError as error:
            missing[each] = error.name
            continue
        reference = result if reference is None else reference
        _must_agree(each, result, reference)
        calls[each] = call
    times = timing.interleaved(calls, rounds)
    rows = []
    for each in chosen(framework, modes):
        row: Row = {"framework": framework, "name": each.name, "mode": each.mode, "ours": each.ours}
        figures = {"missing": missing[each]} if each in missing else times[each]._asdict()
        rows.append({**row, **figures, "threads": module.threads()})
    return rows


def chosen(framework: str, modes: Iterable[str]) -> list[Contender]:
    return [each for each in contenders.load(framework).CONTENDERS if each.mode in modes]


def report(rows: list[Row], unit: str) -> str:
    """One line per contender; the ratios to the peer of the same mode stand beside ours."""
    headers = ("framework", "mode", "contender", f"best {unit}", f"median {unit}", "best / peer", "median / peer")
    return tables.render(headers, [_line(row, rows, unit) for row in rows])


def _line(row: Row, rows: list[Row], unit: str) -> list[str]:
    names = [row["framework"], row["mode"], row["name"]]
    if "missing" in row:
        return [*names, "-", "-", f"needs {row['missing']}", ""]
    times = [tables.scaled(row[which], unit) for which in ("best", "median")]
    return [*names, *times, _ratio(row, rows, "best"), _ratio(row, rows, "median")]


def _ratio(row: Row, rows: list[Row], which: str) -> str:
    same = [r for r in rows if (r["framework"], r["mode"]) == (row["framework"], row["mode"])]
    peer = [r for r in same if not r["ours"] and "best" in r]
    return f"{row[which] / peer[0][which]:.2f}" if row["ours"] and peer else ""


def _excerpt(result: tuple[Any, Any]) -> tuple[Any, Any]:
    """The loss and the gradient of the last sequence, which no mask of ours empties, as NumPy arrays."""
    loss, gradient = result
    return np.array(loss), np.array(gradient[-1])


def _must_agree(each: Contender, result: tuple[Any, Any], reference: tuple[Any, Any]) -> None:
    """Timing two different computations would say nothing."""
    for got, expected in zip(result, reference, strict=True):
        if not np.allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max(initial=0)):
            raise ArithmeticError(f"{each.name} ({each.mode}) computes something else than the first contender")
