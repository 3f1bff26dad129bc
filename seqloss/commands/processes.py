"""Runs each job in its own process, so that one that crashes or hangs does not hide the others."""

import getpass
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seqloss.commands import signals, steps
from seqloss.commands.backends import Choice, progress

Array = Any

CRASHED, TIMED_OUT = "crashed", "timed out"

GRACE = 2.0
"""How many seconds a worker has to clean up before it is killed."""

_LOOK = 1.0
"""The seconds between two looks at a worker."""

_LAST_WORDS = 64 * 1024
"""How many bytes are read from the end of a worker's output, which may be anything and of any length."""


@dataclass(frozen=True)
class Job:
    """What a worker is to do: import ``entry``, as in "module:function", and call it.

    ``entry(framework, inputs, options)`` gets the arrays of the workplace and returns facts for JSON and NumPy arrays.
    """

    framework: str
    entry: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The result of a job: its facts and arrays, or how it failed ("crashed", "timed out")."""

    framework: str
    failure: str | None
    detail: str
    facts: dict[str, Any]
    arrays: dict[str, Array]
    refusal: str | None = None
    """Only the text if the job ended with an error of seqloss or of the operating system."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """What the job told before it was done, or failed."""


@contextmanager
def workplace(inputs: Mapping[str, Array] | None = None) -> Iterator[Path]:
    """A folder with the inputs of the workers, for as long as they work."""
    with signals.held():
        folder = Path(tempfile.mkdtemp(prefix="seqloss-"))
        try:
            with signals.allowed():
                if inputs is not None:
                    import numpy as np

                    np.savez(folder / "inputs.npz", **inputs)
                yield folder
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove it for good: a killed process may still write into it for a moment."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.05)


def run_each(
    choice: Choice,
    entry: str,
    how: Mapping[str, Any],
    timeout: float,
    doing: str = "loading and computing",
    inputs: Mapping[str, Array] | None = None,
) -> Iterator[Outcome]:
    """The outcome of the same job in every chosen framework, one after the other, reporting progress."""
    with workplace(inputs) as folder:
        for framework in choice.chosen:
            with progress(f"{framework}: {doing} ..."):
                outcome = run(folder, Job(framework, entry, how), choice.registered, timeout)
            yield outcome


def run(folder: Path, job: Job, registered: Mapping[str, str], timeout: float) -> Outcome:
    """Do a job and wait for it, as long as it reports something within the limit. Never two at once.

    Each must be timed alone.
    """
    place = Path(tempfile.mkdtemp(prefix="job-", dir=folder))
    content = {
        "framework": job.framework,
        "entry": job.entry,
        "options": dict(job.options),
        "registered": dict(registered),
    }
    (place / "job.json").write_text(json.dumps(content), encoding="utf-8")
    # -P and the path of this process: the worker must find the very modules that were found here.
    command = [sys.executable, "-P", "-m", "seqloss.commands.worker", str(place)]
    # Into a file: a pipe would stay open, and be waited for, if a killed worker leaves children.
    with open(place / "log", "wb") as log, signals.held():
        # The other end of stdin tells the worker that this process is still there.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=_environment(folder), **_OWN_GROUP
        )
        try:
            with signals.allowed():
                status = _waited(process, steps.file(place), timeout)
        except subprocess.TimeoutExpired:
            detail = f"no result after {timeout:g} seconds"
            return Outcome(job.framework, TIMED_OUT, detail, {}, {}, steps=steps.told(place))
        finally:
            _end(process)
    return replace(_collect(place, job.framework, status), steps=steps.told(place))


def _waited(process: "subprocess.Popen[bytes]", told: Path, timeout: float) -> int:
    """The status of a process that ends; a TimeoutExpired for one that has told nothing for so many seconds."""
    size, since = 0, time.monotonic()
    while True:
        left = since + timeout - time.monotonic()
        try:
            return process.wait(min(max(left, 0.0), _LOOK))
        except subprocess.TimeoutExpired:
            grown = told.stat().st_size if told.exists() else 0
            if grown > size:
                size, since = grown, time.monotonic()
            elif time.monotonic() >= since + timeout:
                raise


# A group, so that the children of a worker can be killed with it.
_OWN_GROUP: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a worker to end, then kill what is left of it and its children."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    if _OWN_GROUP:
        with suppress(ProcessLookupError, PermissionError):  # macOS forbids it where only the dead are left
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    if process.stdin is not None:
        process.stdin.close()
    process.wait()


def _environment(folder: Path) -> dict[str, str]:
    """That of a worker. What it, or a compiler that it starts, leaves in the temporary folder goes with ``folder``."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {"TF_CPP_MIN_LOG_LEVEL": "3", **_caches(), **os.environ, "PYTHONPATH": path, "TMPDIR": str(folder)}


def _caches() -> dict[str, str]:
    """What PyTorch keeps in the temporary folder for the next program stays where it is."""
    try:
        user = getpass.getuser()
    except (KeyError, ImportError, OSError):  # a user without a name
        return {}
    return {"TORCHINDUCTOR_CACHE_DIR": os.path.join(tempfile.gettempdir(), f"torchinductor_{user}")}


def _collect(place: Path, framework: str, status: int) -> Outcome:
    def crashed(detail: str, refusal: str | None = None) -> Outcome:
        return Outcome(framework, CRASHED, detail, {}, {}, refusal)

    try:
        left = json.loads((place / "result.json").read_text(encoding="utf-8"))
    except OSError:
        return crashed(_last_words(status, place / "log"))
    except ValueError as error:
        return crashed(f"its result is no JSON: {error}")
    if isinstance(left, dict) and "error" in left:
        return crashed(left["error"], left["refusal"])
    if not isinstance(left, dict) or not isinstance(left.get("facts"), dict):
        return crashed("its result has no facts")
    try:
        arrays = _arrays(place / "arrays.npz")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        return crashed(f"its results cannot be read: {error}")
    return Outcome(framework, None, "", left["facts"], arrays)


def _arrays(path: Path) -> dict[str, Array]:
    if not path.exists():
        return {}
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _last_words(status: int, log: Path) -> str:
    """How a worker ended that could not report it itself."""
    try:
        end = f"killed by {signal.Signals(-status).name}"
    except ValueError:
        end = f"exit status {status} without a result"
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST_WORDS))
        lines = file.read().decode("utf-8", "replace").split("\n")
    return ": ".join([end, *[line.strip() for line in lines if line.strip()][-1:]])
