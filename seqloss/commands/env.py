"""The command ``env``: what is installed, and whether it works."""

import argparse
import os
import platform
import sys
from typing import Any

import seqloss
from seqloss.commands import backends, output
from seqloss.commands.report import Column, Report, Row
from seqloss.core import extras

HELP = "show every framework with its version, devices and threads, and whether its backend works"

DESCRIPTION = """\
Imports every framework in its own process, loads its seqloss backend and computes the loss of two tokens with it.
A framework that crashes or hangs is shown as such, and does not stop the others.

backend      "works", or how it failed
import       seconds that the import takes, including NumPy, but not the start of Python
threads      how many threads the framework uses for one operation; auto if it decides by itself
settings     settings that change numbers: JAX computes in float32 at most unless jax_enable_x64 is on.
             On CPUs NumPy, eager PyTorch and eager TensorFlow compute with C kernels, if there was a C compiler to
             build them and SEQLOSS_NATIVE=0 is not set; else with NumPy

exit status  0: every framework that is installed works
             1: one does not
             2: the request cannot be carried out: bad options, an unknown backend, or one that was asked for and is not
                installed
"""

EXTRAS = ("rich", "rich-argparse", "jinja2", "matplotlib")
"""The packages of the extra ``cli``."""

_COLUMNS = (
    Column("framework"),
    Column("version"),
    Column("backend"),
    Column("devices"),
    Column("threads", True),
    Column("import", True),
    Column("settings"),
)
_LOSS = 0.6931472
"""The logarithm of 2: the loss of a token of two equal logits."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    backends.add_arguments(parser, timeout=120.0)
    output.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Try each framework and report the result; returns the exit status."""
    from seqloss.commands import processes

    output.check(options)
    choice = backends.select(options)
    found: list[dict[str, Any]] = []
    for outcome in processes.run_each(choice, "seqloss.commands.probe:probe", {}, options.timeout, "importing"):
        status = outcome.failure or ("works" if outcome.facts.pop("works") else "wrong")
        detail = outcome.detail or None
        found.append({"framework": outcome.framework, "status": status, "detail": detail, **outcome.facts})
    found += [{"framework": name, "status": "not installed", "detail": extras.command(name)} for name in choice.missing]
    return output.give(_report(found), options)


def _report(found: list[dict[str, Any]]) -> Report:
    ran = [one for one in found if one["status"] != "not installed"]
    good = sum(one["status"] == "works" for one in ran)
    here = _here()
    facts = [("python", f"{here['python']} ({here['executable']})"), ("seqloss", here["seqloss"])]
    facts += [("machine", f"{here['platform']}, {here['cores']} cores")]
    extras = [f"{name} {version or 'missing'}" for name, version in here["extras"].items()]
    facts += [("extra cli", ", ".join(extras)), *[(name, value) for name, value in here["variables"].items()]]
    return Report(
        "env",
        "What is installed, and whether it works",
        facts,
        _COLUMNS,
        [_row(one) for one in found],
        f"{good} of {len(ran)} installed framework{'s' * (len(ran) != 1)} work{'s' * (good == 1)}.",
        good == len(ran),
        {"environment": here, "frameworks": found},
    )


VARIABLES = (
    "SEQLOSS_NATIVE",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "JAX_PLATFORMS",
    "JAX_ENABLE_X64",
    "XLA_FLAGS",
)
"""Variables that are shown if they are set: they decide devices, threads and precision."""


def _here() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "seqloss": seqloss.__version__,
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "extras": {name: _version(name) for name in EXTRAS},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _version(name: str) -> str | None:
    from importlib import metadata  # which takes 30 ms, and the help of any command should not

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _row(one: dict[str, Any]) -> Row:
    status, name = one["status"], one["framework"]
    if status == "not installed":
        return Row(name, (name, "-", f"{status}: {one['detail']}", "-", "-", "-", "-"))
    shown = status if status == "works" else status.upper()
    seconds = f"{one['import_seconds']:.2f} s" if "import_seconds" in one else "-"
    devices = ", ".join(one.get("devices", [])) or "-"
    settings = ", ".join(f"{key} {value}" for key, value in one.get("settings", {}).items()) or "-"
    cells = (name, one.get("version", "-"), shown, devices, str(one.get("threads", "-")), seconds, settings)
    if status == "works":
        return Row(name, cells, "good")
    detail = one["detail"] or f"the loss of two tokens is {one['loss']}, expected {_LOSS}"
    return Row(name, cells, "bad", [f"{name} {status}: {detail}"], status != "wrong")
