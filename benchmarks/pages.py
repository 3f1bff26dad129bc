"""What the documentation shows of the figures in docs/measured: tables as Markdown, pictures as SVG.

The build of the documentation calls ``write``, so that pages and figures cannot come apart. The figures are the JSON
that ``python -m benchmarks --json docs/measured/...`` writes.
"""

import importlib
import json
from pathlib import Path
from typing import Any

from benchmarks import machine, plots


def write(measured: Path, folder: Path) -> None:
    """A table ``name.md`` for each part of the figures, and the pictures, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(measured.glob("*.json")):
        results: dict[str, Any] = json.loads(path.read_text())
        plots.draw(results, folder)
        (folder / f"machine-{path.stem}.md").write_text(machine.report(results["machine"]) + "\n")
        for part in results:
            if part not in ("machine", "quick", "cores"):
                module = importlib.import_module(MODULES[part])
                (folder / f"{part}.md").write_text(module.report(results[part]) + "\n")


MODULES = {
    "import": "benchmarks.import_time",
    "small": "benchmarks.small",
    "memory": "benchmarks.saved",
    "large": "benchmarks.large",
    "sweep": "benchmarks.sweep",
    "cuda": "benchmarks.cuda",
    "errors": "benchmarks.errors",
    "rate": "benchmarks.rate",
}
"""The measures, each a module of its own."""
