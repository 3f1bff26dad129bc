"""The command ``parity``: options, selection of backends, exit status."""

import argparse
import math
import sys
from importlib.util import find_spec
from pathlib import Path

from seqloss.core import dispatch
from seqloss.core.errors import BackendError, OptionError
from seqloss.parity import functions

LONGEST_TIMEOUT = 86400
"""A day, in seconds."""

HELP = "compare loss and gradient of every installed backend with a reference"

DESCRIPTION = """\
Computes the loss of a batch of real text in every installed backend, each in a process of its own, and compares each
token loss and each gradient entry with a reference in float64.

The sentences of the text are the rows of the batch, their bytes the labels, and a byte-bigram model fitted on the
text gives the logits (float32). The first byte of a sentence is predicted from a newline. The padding holds NaN
logits and label -100. A last row has 41 confident tokens, margins 20 to 60, where the common formula for cross
entropy returns exactly 0; it is not part of the loss, the bits per byte and the perplexity that are reported.
White space is collapsed, sentences continue in a new row after 256 bytes, and of a long text the first sentences are
used, as many as fit 16,384 positions.

With --function another function is compared on the same text: the value and, where a framework differentiates, the
gradient by each argument. Functions with weights are given padded rows, with NaN logits and label -100 in the padding,
the others the tokens packed; at most 4,096 positions, the confident ones among them. Lists have the first 16 bytes of
each sentence. Sampled losses have hidden states of size 16, a random projection of the logits of 512 tokens, and 32
candidates.

With --exact the sequence loss is computed with exact=True. Each result must then be the value of the reference,
rounded to float32 once, in every backend: a difference of one bit is a disagreement.

loss         mean over the bytes of the text, in nats
token ULP    worst difference of a token loss from the reference, in units of the last place, of what is allowed there
grad ULP     the same for gradient entries, of sequence_loss_and_grad and of the framework's own differentiation
time         of one sequence_loss_and_grad call, with reading the results; after one call to warm up, and without the
             start of the process and the import of the framework

exit status  0: all backends that ran agree with the reference
             1: one disagrees, crashed or timed out
             2: the request cannot be fulfilled: bad options, a text that cannot be used, an unknown backend, or one
                that was asked for and is not installed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("--text", type=Path, metavar="FILE", help="a UTF-8 text (default: a page of Alice's Adventures in Wonderland)")
    add(
        "--function",
        default=functions.DEFAULT,
        metavar="NAME",
        help=f"what to compute: {', '.join(functions.NAMES)} (default: {functions.DEFAULT})",
    )
    add("--exact", action="store_true", help="with exact=True: every result must be the true value, rounded once")
    add("--backends", metavar="A,B", help="only these (default: all that are installed)")
    add(
        "--register",
        action="append",
        default=[],
        metavar="FRAMEWORK=MODULE",
        help="add the backend that MODULE implements for the arrays of FRAMEWORK; may be repeated",
    )
    add("--timeout", type=_seconds, default=600.0, metavar="SECONDS", help="for each backend (default: 600)")
    add("--json", action="store_true", help="print one JSON object instead of the table")


def run(options: argparse.Namespace) -> int:
    """Compute, compare, print; the exit status."""
    if options.function not in functions.NAMES:
        raise OptionError(f"unknown function {options.function!r}; known are {', '.join(functions.NAMES)}")
    if options.exact and options.function != functions.DEFAULT:
        raise OptionError(
            f"--exact is a mode of {functions.DEFAULT}; {options.function} has none, leave one of them out"
        )
    registered = _register(options.register)
    chosen, missing = _select(options.backends)
    if not _is_installed("numpy"):
        raise BackendError("NumPy is not installed, and the reference needs it; add it with: pip install numpy")
    # Not earlier, so that the help of any command is instant, and a missing NumPy is a message.
    from seqloss.parity import batch, judge, launch, report, text

    content = text.read(options.text)
    made = batch.build(content.sentences)
    row = functions.FUNCTIONS.get(options.function)
    inputs = made.inputs if row is None else row.inputs(made)
    expected = judge.reference(made, options.exact) if row is None else judge.reference_of(row, inputs)
    verdicts: list[judge.Verdict] = []
    with launch.workplace(inputs) as folder:
        for framework in chosen:
            _progress(f"{framework}: loading and computing ...")
            outcome = launch.run(folder, framework, options.function, options.exact, registered, options.timeout)
            verdicts.append(judge.judge(outcome, expected))
            _progress("")
    verdicts += [judge.Verdict(name, "not installed", [], install=_install(name)) for name in missing]
    result = report.Report(content, made, expected, verdicts, options.function, inputs, options.exact)
    print(report.as_json(result) if options.json else report.as_text(result))
    return 0 if result.agree else 1


def _register(pairs: list[str]) -> dict[str, str]:
    """The third-party backends by framework, registered."""
    for pair in pairs:
        framework, _, module = pair.partition("=")
        if not framework.isidentifier() or not all(name.isidentifier() for name in module.split(".")):
            raise OptionError(f"--register takes FRAMEWORK=MODULE, two names of modules, got {pair!r}")
        dispatch.register_backend(framework, module)
        # Only the top-level package can be looked for without importing anything.
        for name in (framework, module.partition(".")[0]):
            if not _is_installed(name):
                raise BackendError(f"--register {pair}: there is no module {name!r} to import")
    return dict(pair.split("=") for pair in pairs)


def _select(requested: str | None) -> tuple[list[str], list[str]]:
    """The backends to run, and those that would run if they were installed."""
    known = dispatch.frameworks()
    names = list(known) if requested is None else [name.strip() for name in requested.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BackendError(f"unknown backend {unknown[0]!r}; known are {', '.join(known)}")
    installed = [name for name in dict.fromkeys(names) if _is_installed(name)]
    missing = [name for name in dict.fromkeys(names) if name not in installed]
    if missing and requested is not None:
        raise BackendError(f"{missing[0]} is not installed; add it with: {_install(missing[0])}")
    return installed, missing


def _is_installed(framework: str) -> bool:
    """Whether the framework could be imported, found out without importing it."""
    spec = find_spec(framework)
    # A folder that happens to have the name is a "namespace package" and has no origin.
    return spec is not None and spec.origin is not None


def _install(framework: str) -> str:
    return "pip install numpy" if framework == "numpy" else f'pip install "seqloss[{framework}]"'


def _progress(message: str) -> None:
    """What is going on, on stderr: one line that is overwritten on a terminal, else a line each."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{message}", end="", file=sys.stderr, flush=True)
    elif message:
        print(message, file=sys.stderr, flush=True)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of seconds between 0 and {LONGEST_TIMEOUT}")
    return seconds
