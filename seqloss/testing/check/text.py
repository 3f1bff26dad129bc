"""The report of a check, for people."""

import textwrap
from collections.abc import Sequence
from typing import Any

from seqloss.testing.check.conventions import Conventions
from seqloss.testing.check.finding import Finding

WIDTH = 120
KINDS = {
    "numbers": ("wrong result", "wrong results"),
    "refusal": ("missing refusal", "missing refusals"),
    "digits": ("loss of digits", "losses of digits"),
}
"""How an invariant can be violated, in words: one, and several."""
_SHOWN = {"numbers": "VIOLATED", "refusal": "NOT REFUSED", "digits": "DIGITS LOST"}
_HEADS = ("invariant", "mode", "dtype", "verdict", "")


def report(name: str, backend: str, findings: Sequence[Finding]) -> str:
    """The lines of a :class:`seqloss.testing.LossCheck`."""
    violated = [finding for finding in findings if finding.verdict == "violated"]
    lines = [f"{name} ({backend}): {_count(findings, violated)}", "", *_table(findings)]
    for finding in violated:
        lines += ["", *_violation(finding)]
    return "\n".join(line.rstrip().encode("ascii", "backslashreplace").decode() for line in lines)


def _count(findings: Sequence[Finding], violated: list[Finding]) -> str:
    applicable = [finding for finding in findings if finding.verdict != "not applicable"]
    if not violated:
        return f"all {len(applicable)} checks that apply hold"
    kinds = [(kind, sum(finding.kind == kind for finding in violated)) for kind in KINDS]
    told = ", ".join(f"{count} {KINDS[kind][count != 1]}" for kind, count in kinds if count)
    are = "is" if len(violated) == 1 else "are"
    return f"{len(violated)} of {len(applicable)} checks that apply {are} VIOLATED: {told}"


def _table(findings: Sequence[Finding]) -> list[str]:
    rows = [_HEADS, *((f.invariant, f.mode, f.dtype, verdict(f.verdict, f.kind), f.detail) for f in findings)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADS) - 1)]
    left = sum(widths) + 2 * len(widths)
    lines = []
    for row in rows:
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        lines.append(f"{cells}  {textwrap.shorten(row[-1], max(WIDTH - left, 20), placeholder=' ...')}")
    return lines


def verdict(name: str, kind: str) -> str:
    """A verdict in a word or two."""
    return _SHOWN[kind] if name == "violated" else name


def _violation(finding: Finding) -> list[str]:
    example = finding.example or {}
    head = f"{finding.invariant} ({finding.mode}, {finding.dtype}): {plain(finding.summary)}"
    return textwrap.wrap(head, WIDTH, subsequent_indent="  ") + [
        line for key, value in example.items() for line in _entry(key, value)
    ]


def _entry(key: str, value: Any) -> list[str]:
    text = plain(value) if isinstance(value, str) else numbers(value)
    first, *rest = [part for line in text.splitlines() or [""] for part in textwrap.wrap(line, WIDTH - 12) or [""]]
    return [f"  {key:8}  {first}", *(f"{'':12}{line}" for line in rest)]


def plain(text: str) -> str:
    """With the few typographic signs of docstrings spelled in ASCII."""
    return text.replace("\N{HORIZONTAL ELLIPSIS}", "...").replace("``", "")


def option(name: str, value: Any, shell: bool) -> str:
    """A convention as it is written: in Python, or as an option of the command line."""
    return f"--{name.replace('_', '-')} {value}" if shell else f"{name}={value!r}"


def spelled(conventions: Conventions, shell: bool) -> str:
    """All conventions of a loss, as they are written."""
    if not shell:
        return f"{conventions}"
    said = {"arguments": ",".join(conventions.arguments)}
    said |= {name: getattr(conventions, name) for name in ("layout", "returns", "gradient")}
    if conventions.ignore_label is not None:
        said["ignore_label"] = f"{conventions.ignore_label}"
    if conventions.class_weights is not None:
        said["class_weights"] = ",".join(repr(x).removesuffix(".0") for x in conventions.class_weights)
    for name in ("label_smoothing", "z_loss", "softcap", "denominator"):
        if (value := getattr(conventions, name)) != getattr(Conventions, name):
            said[name] = value
    return " ".join(option(name, value, shell) for name, value in said.items())


def numbers(x: Any) -> str:
    """Nested lists of numbers, as short as they can be written."""
    if isinstance(x, (list, tuple)):
        return f"[{', '.join(map(numbers, x))}]"
    return f"{x:.9g}" if isinstance(x, float) else str(x)
