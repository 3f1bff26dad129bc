"""``import seqloss``: what it loads and what it costs over bare Python."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from benchmarks import machine
from benchmarks.processes import ROOT

LIMIT_MS = 30
_LOADED = "import sys, seqloss; print(*sys.modules)"


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    rounds = 15 if quick else 40
    # Bytecode of its own: an installed package has it, a checkout may have none, or that of yesterday's source.
    with tempfile.TemporaryDirectory() as folder:
        variables = {**os.environ, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        times: dict[str, list[float]] = {"pass": [], "import seqloss": []}
        for program in times:
            _run(program, variables)  # writes the bytecode
        for _ in range(rounds):
            for program, samples in times.items():
                start = time.perf_counter()
                _run(program, variables)
                samples.append((time.perf_counter() - start) * 1e3)
    bare, ours = times["pass"], times["import seqloss"]
    loaded = {name.partition(".")[0] for name in _run(_LOADED, os.environ).split()}
    return {
        "rounds": rounds,
        "loaded": sorted(loaded.intersection(machine.FRAMEWORKS)),
        "bare_ms": {"best": min(bare), "median": statistics.median(bare)},
        "over_bare_ms": {"best": min(ours) - min(bare), "median": statistics.median(ours) - statistics.median(bare)},
        "limit_ms": LIMIT_MS,
    }


def report(result: dict[str, Any]) -> str:
    over, bare = result["over_bare_ms"], result["bare_ms"]
    loaded = ", ".join(result["loaded"]) or "no framework, no NumPy"
    return (
        f"import seqloss loads {loaded}\n"
        f"{over['best']:.1f} ms over bare Python by the best of {result['rounds']}, {over['median']:.1f} ms by the "
        f"median (bare: {bare['best']:.1f}, {bare['median']:.1f}); the goal is at most {result['limit_ms']} ms"
    )


def _run(program: str, variables: Mapping[str, str]) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True).stdout
