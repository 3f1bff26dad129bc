"""The options for how a report is given out, and giving it out."""

import argparse
import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from seqloss.commands import files, streams, worker
from seqloss.commands.render import text
from seqloss.commands.report import Report
from seqloss.core import extras
from seqloss.core.errors import OptionError

STDOUT = "-"


class Format(NamedTuple):
    """An option: its help, the endings of the files it writes, and the packages it needs."""

    help: str
    endings: tuple[str, ...]
    packages: tuple[str, ...] = ()


FORMATS = {
    "json": Format("one JSON object", (".json",)),
    "markdown": Format("Markdown, for a pull request or a job summary", (".md", ".markdown")),
    "junit": Format("JUnit XML, for a build server", (".xml",)),
    "html": Format(
        "one self-contained HTML page; with plots for parity and golden check",
        (".html", ".htm"),
        ("jinja2", "matplotlib"),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--json``, ``--markdown``, ``--junit`` and ``--html``, each with a file or without."""
    group = parser.add_argument_group(
        "output",
        "Without FILE, or with -, it goes to stdout in place of the table. Put FILEs after all other arguments.",
    )
    for name, form in FORMATS.items():
        needs = f" (needs {' and '.join(form.packages)})" if form.packages else ""
        group.add_argument(f"--{name}", nargs="?", const=STDOUT, metavar="FILE", help=f"{form.help}{needs}")


def check(options: argparse.Namespace) -> None:
    """Refuse what could not be given out, before anything is computed."""
    targets = _targets(options)
    on_stdout = [f"--{name}" for name, target in targets.items() if target == STDOUT]
    if len(on_stdout) > 1:
        raise OptionError(f"{' and '.join(on_stdout)} cannot both go to stdout; give all but one of them a FILE")
    for name, target in targets.items():
        _check(name, target)


def _check(name: str, target: str) -> None:
    form = FORMATS[name]
    missing = [package for package in form.packages if find_spec(package) is None]
    if missing:
        raise OptionError(f"--{name} needs {' and '.join(missing)}; {extras.add('cli')}")
    if target == STDOUT:
        return
    # "golden check --json a.npz" must not write into a.npz.
    if not target.lower().endswith(form.endings):
        raise OptionError(
            f"--{name} {target!r} is not a file name that ends in {' or '.join(form.endings)}; for stdout write "
            f"--{name}=-, or put it after the other arguments"
        )
    path = Path(target)
    try:
        if path.is_dir() or not path.parent.is_dir():
            what = "is a folder" if path.is_dir() else f"cannot be written: there is no folder {str(path.parent)!r}"
            raise OptionError(f"--{name} {target!r} {what}")
        files.check(path)
    except OSError as error:
        raise OptionError(_unwritten(name, target, error)) from None


def _unwritten(name: str, target: str, error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else worker.describe(error)
    return f"--{name} {target!r} cannot be written: {said}"


def _targets(options: argparse.Namespace) -> dict[str, str]:
    return {name: target for name in FORMATS if (target := getattr(options, name)) is not None}


def has_figures(options: argparse.Namespace) -> bool:
    """Whether anybody will see figures."""
    return options.html is not None


def give(report: Report, options: argparse.Namespace) -> int:
    """Write and print what was asked for; the exit status. If one form cannot be written, the others still are."""
    shown, lost = None, []
    for name, target in _targets(options).items():
        try:
            rendered: str = importlib.import_module(f"seqloss.commands.render.{name}").render(report)
            if target == STDOUT:
                shown = rendered
            else:
                files.write(Path(target), f"{rendered}\n".encode())
        except Exception as error:  # whatever the packages do that draw and fill in pages
            lost.append(_unwritten(name, target, error))
    try:
        _show(report, shown)
    except OptionError as error:
        lost.append(str(error))
    except streams.ReaderGone:
        if not lost:
            raise
    if lost:
        raise OptionError("; ".join(lost))
    return report.status


def _show(report: Report, rendered: str | None) -> None:
    """Print another form, or else the table."""
    with streams.stdout():
        if rendered is None:
            text.show(report)
        else:
            encoding = sys.stdout.encoding or "utf-8"
            print(rendered.encode(encoding, "backslashreplace").decode(encoding))
