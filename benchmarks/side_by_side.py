"""Contenders of one framework against each other, in this process."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks import contenders, tables, timing
from benchmarks.contenders import Batch, Contender

Row = dict[str, Any]

# How far the results of two contenders may be apart: some lose the digits of small entries, or have few.
_APART = {"float32": 1e-3, "bfloat16": 2e-2}


class Case(NamedTuple):
    """What the contenders compute in one race; all of its cases take turns too."""

    batch: Batch
    dtype: str = "float32"


def race(
    framework: str, cases: Mapping[str, Case], modes: Iterable[str], rounds: int, small: bool = False
) -> list[Row]:
    """Time the contenders of these modes, round-robin. One whose package is missing is named in its row."""
    module = contenders.load(framework)
    rows: dict[tuple[str, Contender], Row] = {}
    calls: dict[tuple[str, Contender], timing.Call] = {}
    for name, case in cases.items():
        placed = module.place(case.batch) if case.dtype == "float32" else module.place(case.batch, case.dtype)
        reference: Any = None
        for each in chosen(framework, modes, small):
            row: Row = {"framework": framework, "name": each.name, "mode": each.mode, "ours": each.ours, "case": name}
            rows[name, each] = row
            call = each.setup(*placed)
            try:
                result = excerpt(module, call())
            except ModuleNotFoundError as error:
                row["missing"] = error.name
                continue
            reference = result if reference is None else reference
            must_agree(each, result, reference, case.dtype)
            calls[name, each] = call
    for key, times in timing.interleaved(calls, rounds).items():
        rows[key] |= {**times._asdict(), "threads": module.threads()}
    return list(rows.values())


def chosen(framework: str, modes: Iterable[str], small: bool = False) -> list[Contender]:
    """The contenders of these modes; ``small``: those too which only a small call tells apart."""
    every = contenders.load(framework).CONTENDERS
    return [each for each in every if each.mode in modes and (small or each.name not in contenders.SMALL_ONLY)]


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
    key = ("framework", "mode", "case")
    same = [r for r in rows if all(r[k] == row[k] for k in key)]
    peer = [r for r in same if not r["ours"] and "best" in r]
    return f"{row[which] / peer[0][which]:.2f}" if row["ours"] and peer else ""


def excerpt(module: Any, result: tuple[Any, Any]) -> tuple[Any, Any]:
    """The loss and the gradient of the last sequence, which no mask of ours empties, as NumPy arrays."""
    loss, gradient = result
    return np.array(module.to_numpy(loss)), np.array(module.to_numpy(gradient[-1]))


def must_agree(each: Contender, result: tuple[Any, Any], reference: tuple[Any, Any], dtype: str) -> None:
    """Timing two different computations would say nothing."""
    for got, expected in zip(result, reference, strict=True):
        apart = _APART[dtype]
        if not np.allclose(got, expected, rtol=apart, atol=apart / 10 * np.abs(expected).max(initial=0)):
            raise ArithmeticError(f"{each.name} ({each.mode}) computes something else than the first contender")
