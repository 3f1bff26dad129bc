"""The command ``golden``: recording what a loss returned, and checking it elsewhere."""

import argparse
from pathlib import Path
from typing import Any

from seqloss.commands import archives, backends, output
from seqloss.commands.golden_paths import check_free
from seqloss.commands.report import Column, Report, Row
from seqloss.core.errors import OptionError

HELP = "record loss and gradients to a golden file, or check files in every installed backend"

DESCRIPTION = """\
A golden file is a pair. NAME.npz has the arrays that a loss was given and those that it returned. NAME.json has the
function, flags, versions and device, and the hash of the archive. Nothing in either is ever executed.

write   compute the loss of given arrays, with its gradients and token losses, and record them
check   compute the recorded results again in each backend, and compare
writer  copy the single file that records in a program without seqloss: it needs only NumPy, and runs on Python 3.7,
        for example with TensorFlow 1.15

exit status  0: done, and all that was compared is the same
             1: something differs, a function of yours raised an error, or a backend crashed or timed out
             2: the request cannot be carried out: bad options, or a file that is damaged, edited, too large or missing
"""

_WRITE = "Computes the loss, token losses and gradients of the arrays in one backend, and records them."
_CHECK = """\
Computes the recorded results again in each backend, each in its own process, and compares.

worst ULP  the error of the worst entry, in units of the last place: the one that uses most of what is allowed there
allowed    the error that is allowed at that entry; if there is no error, the bound

With --compute your own function computes the results in place of seqloss. It is called with the recorded inputs by
name, as arrays of the backend, and with the recorded flags that it has parameters for. It returns either the loss, and
the framework then computes the recorded gradients of it, or a dict of results by name, as in {"loss": loss}. The module
of the function is imported, so its code runs:

  seqloss golden check model.npz --compute port.losses:masked --backends torch

If the losses differ, the last line is a command that explains why.
"""
_WRITER = (
    "Copies the writer, a single file that needs only NumPy, to a file or folder, so that an old program can record."
)

_AS_WRITTEN = argparse.RawDescriptionHelpFormatter

FLAGS = ("sum_over_timesteps", "sum_over_batch", "exact")
AVERAGES = ("average_across_timesteps", "average_across_batch")
ENTRY = "seqloss.commands.golden_jobs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, prog=parser.prog)
    _add_write(actions.add_parser("write", help="record a loss", description=_WRITE))
    check = actions.add_parser(
        "check", help="compare with a recording", description=_CHECK, formatter_class=_AS_WRITTEN
    )
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="NAME.npz or NAME.json; both must exist")
    check.add_argument("--compute", metavar="MODULE:FUNCTION", help="your own function, in place of seqloss")
    check.add_argument(
        "--bound", type=float, metavar="ULP", help="how far off results may be, in place of the known bounds"
    )
    backends.add_arguments(check)
    output.add_arguments(check)
    writer = actions.add_parser("writer", help="copy the writer", description=_WRITER)
    writer.add_argument(
        "path",
        nargs="?",
        type=Path,
        default=Path(),
        metavar="PATH",
        help="a folder, or a name that ends in .py (default: this folder)",
    )
    writer.add_argument("--overwrite", action="store_true", help="replace an existing file")
    output.add_arguments(writer)


def _add_write(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("out", type=Path, metavar="OUT.npz", help="the file to write; OUT.json is written next to it")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--inputs", type=Path, metavar="FILE.npz", help="logits, targets and weights, from numpy.savez")
    given.add_argument("--from", dest="recorded", type=Path, metavar="GOLDEN", help="the inputs of a golden file")
    add("--backend", default="numpy", metavar="B", help="the framework to compute in (default: numpy)")
    for name in AVERAGES:
        add(f"--no-{name.replace('_', '-')}", dest=name, action="store_false", help=f"with {name}=False")
    for name in FLAGS:
        but = "" if name == "exact" else " and without averages"
        add(f"--{name.replace('_', '-')}", action="store_true", help=f"with {name}=True{but}")
    add("--note", metavar="TEXT", help="a note for the manifest")
    add("--overwrite", action="store_true", help="replace existing files")
    add(
        "--timeout", type=backends.seconds, default=600.0, metavar="SECONDS", help="how long it may take (default: 600)"
    )
    output.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Do what was asked for; the exit status."""
    output.check(options)
    backends.need_numpy("a golden file")
    return output.give(_ACTIONS[options.action](options), options)


def _write(options: argparse.Namespace) -> Report:
    from seqloss.commands import processes

    check_free(options.out, options.overwrite)
    options.backends, options.register = options.backend, []
    backend, *others = backends.select(options).chosen
    if others:
        raise OptionError(f"--backend takes one backend, got {options.backend!r}")
    # Only what departs from the defaults, so that the manifest says what is special.
    flags = {name: True for name in FLAGS if getattr(options, name)}
    # A sum goes with no average, over whichever axis.
    sums = options.sum_over_timesteps or options.sum_over_batch
    flags |= {name: False for name in AVERAGES if sums or not getattr(options, name)}
    inputs, dtypes = _inputs(options)
    how = {"path": str(options.out.absolute()), "flags": flags, "note": options.note, "dtypes": dtypes}
    job = processes.Job(backend, f"{ENTRY}:record", {**how, "overwrite": options.overwrite})
    with processes.workplace(inputs) as folder, backends.progress(f"{backend}: computing ..."):
        outcome = processes.run(folder, job, {}, options.timeout)
    if outcome.refusal is not None:
        raise OptionError(outcome.refusal)
    return _recorded(options, outcome, flags) if outcome.failure is None else _not_recorded(outcome)


_ARRAYS = (Column("array"), Column("role"), Column("dtype"), Column("shape"))


def _recorded(options: argparse.Namespace, outcome: Any, flags: dict[str, bool]) -> Report:
    backend, arrays = outcome.framework, outcome.facts["arrays"]
    rows = [Row(name, (name, x["role"], x["dtype"], str(x["shape"])), "good") for name, x in arrays.items()]
    facts = [("file", str(options.out)), ("backend", f"{backend} {outcome.facts['version']}")]
    facts += [("flags", told_flags(flags))]
    return Report(
        "golden write",
        "Recorded",
        facts,
        _ARRAYS,
        rows,
        f"Wrote {outcome.facts['path']} and its manifest.",
        True,
        {"file": outcome.facts["path"], "backend": backend, "flags": flags, "arrays": arrays},
    )


def told_flags(flags: dict[str, Any]) -> str:
    """What was recorded of the flags, in a line."""
    return ", ".join(f"{name}={value}" for name, value in sorted(flags.items())) or "default flags"


def _not_recorded(outcome: Any) -> Report:
    problem = f"{outcome.framework} {outcome.failure}: {outcome.detail}"
    row = Row(outcome.framework, (outcome.framework, outcome.failure.upper(), "-", "-"), "bad", [problem], True)
    return Report("golden write", "Not recorded", [], _ARRAYS, [row], "Nothing was written.", False, {"file": None})


def _inputs(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """The arrays, and the dtypes of those that are something else than they seem."""
    if options.inputs is not None:
        return archives.read(options.inputs), {}
    from seqloss.testing import golden
    from seqloss.testing.golden.checking import INPUTS

    recorded = golden.read(options.recorded)
    others = [*(recorded.inputs.keys() - set(INPUTS)), *({"logits", "targets"} - recorded.inputs.keys())]
    if others:
        raise OptionError(
            f"{options.recorded} has the inputs {', '.join(recorded.inputs)}; the loss is computed of logits, targets "
            "and, if there are any, weights: pass these with --inputs"
        )
    return recorded.inputs, {name: recorded.dtypes[name] for name in recorded.inputs}


def _check(options: argparse.Namespace) -> Report:
    from seqloss.commands import golden_check

    return golden_check.check(options)


def _copy_writer(options: argparse.Namespace) -> Report:
    from seqloss.testing import golden

    target = _target(options.path, golden.WRITER.name)
    content = golden.WRITER.read_bytes()
    if target.exists() and not options.overwrite and target.read_bytes() != content:
        raise OptionError(f"{target} exists and is another file; pass --overwrite to replace it")
    target.write_bytes(content)
    row = Row(str(target), (str(target), f"{len(content)}"), "good")
    return Report(
        "golden writer",
        "The golden writer",
        [],
        (Column("file"), Column("bytes", True)),
        [row],
        "Beside an old program: import seqloss_golden_writer, then seqloss_golden_writer.write(path, inputs, results).",
        True,
        {"file": str(target), "bytes": len(content)},
    )


def _target(path: Path, name: str) -> Path:
    """Where the writer goes to: into a folder, or to a name of its own."""
    if path.is_dir():
        return path / name
    if path.suffix != ".py":
        raise OptionError(f"there is no folder {str(path)!r}; make it first, or pass a name that ends in .py")
    if not path.parent.is_dir():
        raise OptionError(f"{path} cannot be written: there is no folder {str(path.parent)!r}; make it first")
    return path


_ACTIONS = {"write": _write, "check": _check, "writer": _copy_writer}
