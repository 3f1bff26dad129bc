"""A check in the process of a backend; if that fails, another one does the rest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqloss.commands import processes
from seqloss.commands.backends import Choice, progress
from seqloss.testing.invariants import EVERY

ENTRY = "seqloss.commands.selftest_job:check"


def run_each(choice: Choice, how: dict[str, Any], timeout: float) -> Iterator[processes.Outcome]:
    """The outcome in every chosen framework. The limit is for each invariant: what was found before is kept."""
    with processes.workplace() as folder:
        for framework in choice.chosen:
            with progress(f"{framework}: loading and checking ..."):
                outcome = _whole(folder, framework, how, choice, timeout)
            yield outcome


def _whole(folder: Path, framework: str, how: dict[str, Any], choice: Choice, timeout: float) -> processes.Outcome:
    head: dict[str, Any] = {}
    found: list[dict[str, Any]] = []
    left: list[str] | None = None
    while left is None or left:
        job = processes.Job(framework, ENTRY, {**how, "invariants": left or how["invariants"]})
        outcome = processes.run(folder, job, choice.registered, timeout)
        if not head and (outcome.refusal is not None or not outcome.steps):
            return outcome  # it failed before the first invariant
        if not outcome.steps:
            found += [_lost(name, outcome) for name in left or ()]
            break
        begun, *done = outcome.steps
        head = head or begun
        found += [finding for step in done for finding in step["check"]["findings"]]
        left = begun["names"][len(done) :]
        if left:
            found.append(_lost(left[0], outcome))
            left = left[1:]
    holds = all(finding["verdict"] in ("holds", "not applicable") for finding in found)
    facts = {"version": head["version"], "check": {**head["check"], "holds": holds, "findings": found}}
    return processes.Outcome(framework, None, "", facts, {})


def _lost(name: str, outcome: processes.Outcome) -> dict[str, Any]:
    """The finding for the invariant in which a process failed."""
    told = {"invariant": name, "mode": "-", "dtype": "-", "verdict": outcome.failure, "detail": outcome.detail}
    shown = f"{outcome.framework} {name} {outcome.failure}: {' '.join(outcome.detail.splitlines())}"
    return {**told, "summary": EVERY[name].summary, "example": None, "kind": "", "shown": shown}
