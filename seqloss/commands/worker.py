"""A job in a process of its own: ``python -m seqloss.commands.worker PLACE``.

One process each, because TensorFlow loaded before parts of torch aborts the process, and because a backend that
crashes must not take the others with it. Reads PLACE/job.json and PLACE/../inputs.npz; writes PLACE/arrays.npz and,
when all is done, PLACE/result.json. A job of several steps tells of each in PLACE/steps.jsonl. NumPy is imported only
if there are arrays.
"""

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import seqloss
from seqloss.commands import signals, steps
from seqloss.core.errors import SeqlossError

Array = Any


def main(arguments: list[str]) -> None:
    """Do the job and write what came out; an exception becomes part of what is written."""
    _end_with_the_parent()
    place = Path(*arguments)
    job = json.loads((place / "job.json").read_text(encoding="utf-8"))
    steps.begin(place)
    try:
        for framework, module in job["registered"].items():
            seqloss.register_backend(framework, module)
        module, _, function = job["entry"].partition(":")
        entry = getattr(importlib.import_module(module), function)
        facts, arrays = entry(job["framework"], _inputs(place.parent / "inputs.npz"), job["options"])
        if arrays:
            import numpy as np

            np.savez(place / "arrays.npz", **arrays)
        result = json.dumps({"facts": facts})
    # SystemExit too: whoever ends the process has not done the job, whatever the exit status.
    except (Exception, SystemExit) as error:
        refusal = str(error) if isinstance(error, (SeqlossError, OSError)) else None
        result = json.dumps({"error": describe(error), "refusal": refusal})
    (place / "result.json").write_text(result, encoding="utf-8")


def _inputs(path: Path) -> dict[str, Array]:
    if not path.exists():
        return {}
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    for array in arrays.values():
        array.setflags(write=False)  # a kernel that writes into its argument shall notice
    return arrays


def _end_with_the_parent() -> None:
    """Kill this process and its children once nobody waits for them, which closes stdin."""
    stdin = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        os.read(stdin, 1)
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def describe(error: BaseException) -> str:
    """The error and the line that raised it, because nobody sees the traceback of a worker."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (in {where.name}, {Path(where.filename).name} line {where.lineno})"


if __name__ == "__main__":
    with signals.obeyed():  # so that a job that is asked to end removes what it has made
        main(sys.argv[1:])
