"""What ``selftest`` does in the process of a backend."""

import importlib
from typing import Any

from seqloss.commands import functions
from seqloss.testing import check as checking
from seqloss.testing.check.text import numbers, plain

Facts = dict[str, Any]


def check(framework: str, inputs: dict[str, Any], options: dict[str, Any]) -> tuple[Facts, dict[str, Any]]:
    """Import the loss and ask it; the findings."""
    module = importlib.import_module(framework)
    conventions = options["conventions"] or {}
    if "arguments" in conventions:
        conventions["arguments"] = tuple(conventions["arguments"])
    loss = functions.imported(options["loss"])
    asked = (options["modes"], options["invariants"], options["seed"])
    found = checking.run(loss, framework, conventions, *asked, shell=True)
    facts = found.as_dict()
    for finding in facts["findings"]:
        finding["shown"] = _shown(framework, finding)
    return {"version": str(getattr(module, "__version__", "unknown")), "check": facts}, {}


def _shown(framework: str, finding: Facts) -> str:
    """A violation in lines: what must hold, and the smallest batch for which it does not."""
    head = f"{framework} {finding['invariant']} ({finding['mode']}, {finding['dtype']}): {plain(finding['summary'])}"
    entries = (finding["example"] or {}).items()
    return "\n".join([head, *(f"{key:8}  {_text(value)}" for key, value in entries)])


def _text(value: Any) -> str:
    return " ".join((plain(value) if isinstance(value, str) else numbers(value)).split())
