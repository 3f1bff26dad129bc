"""Programs that compute on several devices, in processes of their own: ``python PROGRAM FILE`` writes JSON there."""

import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
SECONDS = 600


def results(program, tmp_path_factory):
    """What a program of this folder found: by the name of a row what it returned, or its error.

    The program runs once, also where pytest-xdist gives its tests to several workers.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    file, errors = (folder / f"{program}.{ending}" for ending in ("json", "txt"))
    try:
        errors.touch(exist_ok=False)
        errors.write_text(_run(program, file))
    except FileExistsError:
        _wait(file, errors)
    assert file.exists(), errors.read_text()
    return json.loads(file.read_text())


def of(found, row):
    """What a row returned; it fails with the traceback where there was an error."""
    assert "traceback" not in found[row], found[row]["traceback"]
    return found[row]


def _run(program, file):
    """Run it, and return what it said if it failed."""
    settings = {"PYTHONPATH": str(HERE.parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
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
