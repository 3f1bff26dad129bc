"""What the documentation shows of the figures in docs/measured: tables as Markdown, pictures as SVG.

The build of the documentation calls ``write``, so that pages and figures cannot come apart. The figures are the JSON
that ``python -m benchmarks --json docs/measured/...`` writes.
"""

import importlib
import json
from pathlib import Path
from typing import Any

from benchmarks import answer, machine, plots

_QUICK = "\n\n**Taken with `--quick`**: small batches and few rounds, which show that the program runs and little else."


def write(measured: Path, folder: Path) -> None:
    """A table ``name.md`` for each part of the figures, and the pictures, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(measured.glob("*.json")):
        results: dict[str, Any] = json.loads(path.read_text())
        plots.draw(results, folder)
        where = machine.report(results["machine"]) + (_QUICK if results["quick"] else "")
        (folder / f"machine-{path.stem}.md").write_text(where + "\n")
        for part in results:
            if part not in ("machine", "quick", "cores"):
                module = importlib.import_module(MODULES[part])
                (folder / f"{part}.md").write_text(module.report(results[part]) + "\n")
    answer.write(measured, folder)


MODULES = {
    "ratios": "benchmarks.ratios",
    "import": "benchmarks.import_time",
    "small": "benchmarks.small",
    "memory": "benchmarks.saved",
    "large": "benchmarks.large",
    "options": "benchmarks.options",
    "linear": "benchmarks.linear",
    "sweep": "benchmarks.sweep",
    "cuda": "benchmarks.cuda",
    "errors": "benchmarks.errors",
    "rate": "benchmarks.rate",
    "verdicts": "benchmarks.verdicts",
    "curves": "benchmarks.curves",
}
"""The measures, each a module of its own."""
