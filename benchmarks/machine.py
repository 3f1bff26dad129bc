"""Where figures were taken: without it they mean nothing."""

import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path

FRAMEWORKS = ("numpy", "torch", "tensorflow", "jax")

# The distribution that a module comes from may go by several names.
_DISTRIBUTIONS = {"tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax",), "torch": ("torch",)}


def describe() -> dict[str, object]:
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in (*FRAMEWORKS, "optax", "keras")},
    }


def report(machine: dict[str, object]) -> str:
    versions = machine["versions"]
    assert isinstance(versions, dict)
    installed = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    absent = "".join(f"\n{name} is not installed: not measured" for name, number in versions.items() if not number)
    return f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}, {installed}{absent}"


def cores() -> int:
    """The cores this process may use, which are fewer than the machine has inside a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed() -> list[str]:
    return [name for name in FRAMEWORKS if importlib.util.find_spec(name)]


def version(module: str) -> str | None:
    for distribution in _DISTRIBUTIONS.get(module, (module,)):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
