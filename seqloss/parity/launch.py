"""Starts a worker for each backend and collects what it leaves."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = Any


class Outcome(NamedTuple):
    """What became of a worker: its facts and arrays, or ("crashed", "timed out") how it failed."""

    framework: str
    failure: str | None
    detail: str
    facts: dict[str, Any]
    arrays: dict[str, Array]


@contextmanager
def workplace(inputs: dict[str, Array]) -> Iterator[Path]:
    """A folder with the inputs of the workers, for as long as they work."""
    with tempfile.TemporaryDirectory(prefix="seqloss-") as folder:
        np.savez(Path(folder, "inputs.npz"), **inputs)
        yield Path(folder)


def run(
    folder: Path, framework: str, function: str, exact: bool, registered: Mapping[str, str], timeout: float
) -> Outcome:
    """Start the worker of one backend and wait for it. Never two at once: each is to be timed alone."""
    pairs = [f"{name}={module}" for name, module in registered.items()]
    # -P and the path of this process: the worker must find the very modules that were found here.
    how = [framework, function, "exact" if exact else "fast"]
    command = [sys.executable, "-P", "-m", "seqloss.parity.worker", str(folder), *how, *pairs]
    log = folder / f"{framework}.log"
    try:
        # Into a file: a pipe would stay open, and be waited for, if a killed worker leaves children.
        with open(log, "wb") as output:
            status = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment(), timeout=timeout
            ).returncode
    except subprocess.TimeoutExpired:
        return Outcome(framework, "timed out", f"no result after {timeout:g} seconds", {}, {})
    return _collect(folder, framework, status, log)


def _environment() -> dict[str, str]:
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "PYTHONPATH": path}


def _collect(folder: Path, framework: str, status: int, log: Path) -> Outcome:
    try:
        facts = json.loads((folder / f"{framework}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Outcome(framework, "crashed", _last_words(status, log), {}, {})
    if "error" in facts:
        return Outcome(framework, "crashed", facts["error"], {}, {})
    try:
        with np.load(folder / f"{framework}.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return Outcome(framework, "crashed", f"its results cannot be read: {error}", facts, {})
    return Outcome(framework, None, "", facts, arrays)


def _last_words(status: int, log: Path) -> str:
    """How a worker ended that could not say so itself."""
    try:
        end = f"killed by {signal.Signals(-status).name}"
    except ValueError:
        end = f"exit status {status} without a result"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return ": ".join([end, *[line.strip() for line in lines if line.strip()][-1:]])
