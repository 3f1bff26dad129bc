"""For build servers: JUnit's XML, a test case for each row."""

import re
from xml.etree import ElementTree as tree

import seqloss
from seqloss.commands.report import Report, Row

# What XML 1.0 has no way to write.
_IMPOSSIBLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> str:
    """ASCII, whatever the report holds."""
    tags = [_tag(row) for row in report.rows]
    numbers = {"failures": tags.count("failure"), "errors": tags.count("error"), "skipped": tags.count("skipped")}
    counts = {"tests": str(len(tags)), **{name: str(number) for name, number in numbers.items()}}
    suites = tree.Element("testsuites", {"name": "seqloss", **counts})
    suite = tree.SubElement(suites, "testsuite", {"name": f"seqloss.{report.command}", **counts})
    properties = tree.SubElement(suite, "properties")
    for name, text in [("seqloss", seqloss.__version__), *report.facts]:
        tree.SubElement(properties, "property", name=clean(name), value=clean(text))
    for row in report.rows:
        _case(suite, report, row)
    said = tree.SubElement(suite, "system-out")
    said.text = clean("\n".join([report.conclusion, *report.notes]))
    tree.indent(suites)
    written: bytes = tree.tostring(suites, encoding="us-ascii", xml_declaration=True)
    return written.decode()


def _case(suite: tree.Element, report: Report, row: Row) -> None:
    case = tree.SubElement(suite, "testcase", classname=f"seqloss.{report.command}", name=clean(row.name))
    told = ", ".join(cell for cell in row.cells if cell not in ("", "-"))
    tag = _tag(row)
    if tag in ("failure", "error"):
        first = row.problems[0].splitlines()[0] if row.problems and row.problems[0] else told
        tree.SubElement(case, tag, message=clean(first)).text = clean("\n".join(row.problems) or told)
    elif tag is not None:
        tree.SubElement(case, tag, message=clean(told))


def _tag(row: Row) -> str | None:
    """The content of a test case: a result that differs is a failure, a missing result is an error."""
    if row.is_error:
        return "error"
    return {"bad": "failure", "neutral": "skipped"}.get(row.status)


def clean(text: str) -> str:
    """The text with what XML cannot hold replaced."""
    return _IMPOSSIBLE.sub("\ufffd", text)
