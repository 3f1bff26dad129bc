"""For programs: one strict JSON object."""

import json
import math
from collections.abc import Mapping
from typing import Any

import seqloss
from seqloss.commands.report import Report


def render(report: Report) -> str:
    """The command, the verdict and the data; what is not finite or not known is null."""
    content = {"seqloss": seqloss.__version__, "command": report.command, "same": report.same, **report.data}
    return json.dumps(_strict(content), indent=2, allow_nan=False)


def _strict(x: Any) -> Any:
    if isinstance(x, Mapping):
        return {str(key): _strict(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_strict(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x
