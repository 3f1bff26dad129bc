"""For programs: one strict JSON object."""

import json

import seqloss
from seqloss.commands.report import Report
from seqloss.testing.strict import jsonable


def render(report: Report) -> str:
    """The command, the verdict and the data; null is what is not known."""
    content = {"seqloss": seqloss.__version__, "command": report.command, "same": report.same, **report.data}
    return json.dumps(jsonable(content), indent=2, allow_nan=False)
