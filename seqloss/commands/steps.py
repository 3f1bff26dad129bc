"""What a job tells before it is done: each step as a line of JSON, which stays when the job fails."""

import json
from pathlib import Path
from typing import Any


class _Here:
    """The file of the job that this process does, if it does one."""

    path: Path | None = None


def begin(place: Path) -> None:
    """From now on steps are told in this folder."""
    _Here.path = file(place)


def tell(step: dict[str, Any]) -> None:
    """Something is done; the time limit of the job starts anew."""
    if _Here.path is not None:
        with _Here.path.open("a", encoding="utf-8") as steps:
            steps.write(json.dumps(step) + "\n")


def told(place: Path) -> list[dict[str, Any]]:
    """What a job has told. Whoever was killed while it wrote has left half a line."""
    try:
        lines = file(place).read_text(encoding="utf-8").split("\n")
    except OSError:
        return []
    return [json.loads(line) for line in lines[:-1]]


def file(place: Path) -> Path:
    """Where the steps of a job stand."""
    return place / "steps.jsonl"
