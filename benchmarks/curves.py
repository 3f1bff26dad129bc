"""The losses of one small language model in each framework, step by step, from the same initial weights."""

import importlib
import sys
from typing import Any

from benchmarks import processes, tables

PROGRAMS = {"numpy": "in_numpy", "torch": "in_torch", "tensorflow": "in_keras", "jax": "in_jax"}
"""Those of examples/training, by what they run on."""


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    from benchmarks import machine

    steps = 3 if quick else 60
    installed = [name for name in PROGRAMS if name in machine.installed()]
    return {name: processes.call("curves:losses", cores, framework=name, steps=steps) for name in installed}


def losses(framework: str, steps: int) -> list[float]:
    """The loss of each step."""
    sys.path.insert(0, str(processes.ROOT / "examples" / "training"))
    return [float(loss) for loss in importlib.import_module(PROGRAMS[framework]).train(steps)]


def apart(curves: dict[str, list[float]]) -> dict[str, list[float]]:
    """How far each curve is from that of NumPy, at each step."""
    return {
        name: [abs(a - b) for a, b in zip(curve, curves["numpy"], strict=True)]
        for name, curve in curves.items()
        if name != "numpy"
    }


def report(result: dict[str, Any]) -> str:
    far = apart(result)
    lines = [
        (
            name,
            f"{curve[0]:.6f}",
            f"{curve[-1]:.6f}",
            f"{max(far[name]):.1e}" if name in far else "",
        )
        for name, curve in result.items()
    ]
    headers = ("framework", "first step", "last step", "largest distance from NumPy")
    return tables.render(headers, lines)
