"""Programs that start a group of processes: ``python PROGRAM FOLDER``, each of which leaves NAME-RANK.npz there."""

import os
import pathlib
import subprocess
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent


def results(program, folder):
    """What the ranks of each group of a program found: lists of dictionaries by the names of the groups."""
    settings = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(HERE / program), str(folder)]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.npz")):
        with np.load(path) as file:
            found.setdefault(path.stem.rpartition("-")[0], []).append(dict(file))
    return found


def of(found, case):
    """The results of one case, whose names are CASE/NAME; or the traceback of what went wrong in it."""
    inside = {name.removeprefix(f"{case}/"): x for name, x in found.items() if name.startswith(f"{case}/")}
    assert "traceback" not in inside, inside["traceback"]
    return inside
