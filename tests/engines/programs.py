"""Programs that compute in several places, in processes of their own: ``python PROGRAM FILE`` leaves rows there.

Rows are what a program found, by name. One is a dictionary of plain values and NumPy arrays, or says what went wrong.
"""

import os
import pathlib
import pickle
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).parent
SECONDS = 600


# --- for tests


def results(program, tmp_path_factory):
    """What a program of this folder left.

    It runs once, also where pytest-xdist gives its tests to several workers.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    file, errors = (folder / f"{program}.{ending}" for ending in ("rows", "txt"))
    try:
        errors.touch(exist_ok=False)
        errors.write_text(_run(program, file))
    except FileExistsError:
        _wait(file, errors)
    assert file.exists(), errors.read_text()
    return loaded(file)


def of(found, row):
    """What a row returned; it fails with the traceback where there was an error."""
    assert "traceback" not in found[row], found[row]["traceback"]
    return found[row]


def _run(program, file):
    """Run it, and return what it said if it failed."""
    settings = {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    settings |= {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    part = file.with_suffix(".part")
    command = [sys.executable, "-W", "error", str(HERE / program), str(part)]
    try:
        subprocess.run(
            command, env=os.environ | settings, stderr=subprocess.PIPE, text=True, check=True, timeout=SECONDS
        )
    except subprocess.SubprocessError as error:
        return f"{error}\n{error.stderr}"
    part.rename(file)
    return ""


def _wait(file, errors):
    end = time.monotonic() + SECONDS
    while not file.exists() and not errors.read_text() and time.monotonic() < end:
        time.sleep(0.1)


# --- for programs


def tried(function, *arguments, **options):
    """What a row returns, or its error."""
    try:
        return function(*arguments, **options)
    except Exception as error:
        return {"error": type(error).__name__, "text": str(error), "traceback": traceback.format_exc()}


def save(found, file):
    pathlib.Path(file).write_bytes(pickle.dumps(_plain(found)))


def loaded(file):
    return pickle.loads(pathlib.Path(file).read_bytes())


def _plain(x):
    """Without the arrays of a framework, which a test would import to read them."""
    if isinstance(x, dict):
        return {name: _plain(value) for name, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value) for value in x]
    return x if x is None or isinstance(x, (bool, int, float, str)) or type(x).__module__ == "numpy" else str(x)
