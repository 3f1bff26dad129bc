"""The big batch: time and peak memory of value and gradient, on all cores."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks import contenders, machine, peak, processes, side_by_side, tables, timing

SHAPE = [32, 64, 32_000]
QUICK_SHAPE = [8, 32, 32_000]
MODES = ("eager", "compile", "jit", "XLA")
# Nobody would run it at this size.
SKIPPED = {("jax", "eager")}
FULL, MASKED, HALF = "full", "half masked", "bfloat16 logits"


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    shape = QUICK_SHAPE if quick else SHAPE
    rounds = 3 if quick else 10
    rows: list[Any] = []
    for framework in machine.installed():
        rows += processes.call("large:race", cores, framework=framework, shape=shape, rounds=rounds)
    for row in rows:
        if row["case"] == FULL and "best" in row:
            (row["peak"],) = peak.of(row, [shape], cores)
    floors = processes.call("large:floors", cores, shape=shape, rounds=rounds)
    return {"shape": shape, "cores": cores or machine.cores(), "floors": floors, "rows": rows}


def floors(shape: list[int], rounds: int) -> dict[str, float]:
    """Seconds to read the logits once and write as much once, by all cores: into memory that is there, and fresh."""
    logits = contenders.make_batch(shape).logits.reshape(-1)
    kept, cores = np.empty_like(logits), machine.cores()
    bounds = np.linspace(0, logits.size, 8 * cores + 1).astype(int)
    pieces = [slice(first, last) for first, last in itertools.pairwise(bounds)]
    with ThreadPoolExecutor(cores) as pool:

        def copy(out: Any) -> Any:
            list(pool.map(lambda piece: np.copyto(out[piece], logits[piece]), pieces))
            return out

        calls = {"kept": lambda: copy(kept), "fresh": lambda: copy(np.empty_like(logits))}
        return {name: each.best for name, each in timing.interleaved(calls, rounds).items()}


def race(framework: str, shape: list[int], rounds: int) -> Any:
    full, masked = (contenders.make_batch(shape, padded) for padded in (False, True))
    cases = {FULL: side_by_side.Case(full), MASKED: side_by_side.Case(masked)}
    if framework == "torch":
        cases[HALF] = side_by_side.Case(full, "bfloat16")
    return side_by_side.race(framework, cases, modes(framework), rounds)


def modes(framework: str) -> list[str]:
    return [mode for mode in MODES if (framework, mode) not in SKIPPED]


def report(result: dict[str, Any]) -> str:
    rows = result["rows"]
    threads = {row["framework"]: row["threads"] for row in rows if "threads" in row}
    counts = ", ".join(f"{name} {count}" for name, count in threads.items())
    kept, fresh = (tables.scaled(result["floors"][name], "ms") for name in ("kept", "fresh"))
    parts = [
        f"Logits {result['shape']}, value and gradient, {result['cores']} cores; threads: {counts}",
        f"The floor, to read the logits and to write as much: {kept} ms into memory that is there already, {fresh} ms "
        "into fresh memory, which a new gradient is.",
    ]
    titles = {
        FULL: "float32:",
        MASKED: "float32, with a mask that leaves out half of the tokens:",
        HALF: "bfloat16 logits; the peer computes in float32 too:",
    }
    for case, title in titles.items():
        parts += [title, side_by_side.report([row for row in rows if row["case"] == case], "ms")]
    parts += ["The masked batch beside the full one:", _masked_table(rows)]
    peaks = [
        (row["framework"], row["mode"], row["name"], "unknown" if row["peak"] is None else f"{row['peak']:.2f}")
        for row in rows
        if "peak" in row
    ]
    parts.append("Peak memory beside the arguments, gradient included, in units of the logits:")
    return "\n\n".join([*parts, tables.render(("framework", "mode", "contender", "logits"), peaks)])


def _masked_table(rows: list[Any]) -> str:
    """Of each contender, the time with half of the tokens as a part of the time with all."""
    times = {(r["framework"], r["mode"], r["name"], r["case"]): r for r in rows if "best" in r}
    lines = []
    for (*who, case), full in times.items():
        if case == FULL:
            masked = times[(*who, MASKED)]
            lines.append((*who, *(f"{masked[which] / full[which]:.2f}" for which in ("best", "median"))))
    return tables.render(("framework", "mode", "contender", "best / best", "median / median"), lines)
