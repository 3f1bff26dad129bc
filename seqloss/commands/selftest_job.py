"""What ``selftest`` does in the process of a backend."""

from collections.abc import Sequence
from typing import Any

from seqloss.commands import backends, functions, steps
from seqloss.testing import check as checking
from seqloss.testing.check.text import numbers, plain

Facts = dict[str, Any]


def check(framework: str, inputs: dict[str, Any], options: dict[str, Any]) -> tuple[Facts, dict[str, Any]]:
    """Import the loss and check it; the findings of each invariant are reported at once."""
    version = backends.version(framework)
    conventions = options["conventions"] or {}
    # JSON knows no tuples.
    conventions = {name: tuple(x) if isinstance(x, list) else x for name, x in conventions.items()}
    loss = functions.imported(options["loss"])
    asked = (options["modes"], options["invariants"], options["seed"])

    def told(found: checking.LossCheck, names: Sequence[str]) -> None:
        steps.tell({"version": version, "check": _facts(framework, found), "names": list(names)})

    found = checking.run(loss, framework, conventions, *asked, shell=True, told=told)
    return {"version": version, "check": _facts(framework, found)}, {}


def _facts(framework: str, found: checking.LossCheck) -> Facts:
    facts = found.as_dict()
    for finding in facts["findings"]:
        finding["shown"] = _shown(framework, finding)
    return facts


def _shown(framework: str, finding: Facts) -> str:
    """A violation in lines: what must hold, and the smallest batch for which it does not."""
    head = f"{framework} {finding['invariant']} ({finding['mode']}, {finding['dtype']}): {plain(finding['summary'])}"
    entries = (finding["example"] or {}).items()
    return "\n".join([head, *(f"{key:8}  {_text(value)}" for key, value in entries)])


def _text(value: Any) -> str:
    return " ".join((plain(value) if isinstance(value, str) else numbers(value)).split())
