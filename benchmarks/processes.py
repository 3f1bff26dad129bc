"""Functions in a process of their own, as ``python -m benchmarks.processes``.

A framework brings its threads, its allocator and its libraries; torch and TensorFlow cannot even be loaded in any
order in one process. So each framework is measured alone.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import machine

ROOT = Path(__file__).resolve().parent.parent


class Failed(Exception):
    """The process ended without a result; the text is the end of what it wrote to stderr."""


def call(function: str, cores: int | None = None, environment: dict[str, str] | None = None, **arguments: Any) -> Any:
    """``function`` ("module:name" within this package) in a fresh process; arguments and result pass as JSON.

    ``cores`` limits the process to this many of them; None leaves it what this process has. ``environment`` is added.
    """
    request = json.dumps({"function": function, "cores": cores, "arguments": arguments})
    command = [sys.executable, "-m", "benchmarks.processes", request]
    variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{function}({arguments}) ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])  # before the last line a framework may have spoken


def _limit(cores: int) -> None:
    """Must come before a framework is imported: each sizes its thread pools by one of the two."""
    os.environ["OMP_NUM_THREADS"] = str(cores)
    if hasattr(os, "sched_setaffinity"):
        # The last ones: the first core answers most of the interrupts.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])


def _main(request: dict[str, Any]) -> None:
    _limit(request["cores"] or machine.cores())
    module, _, name = request["function"].partition(":")
    function = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    print(json.dumps(function(**request["arguments"])))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
