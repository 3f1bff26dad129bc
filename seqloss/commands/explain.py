"""The command ``explain``: why two losses of the same inputs differ."""

import argparse
import math
from pathlib import Path
from typing import Any

from seqloss.commands import archives, backends, output
from seqloss.commands.report import Column, Report, Row
from seqloss.core.errors import OptionError

HELP = "name the convention by which two losses of the same inputs differ"

DESCRIPTION = """\
Computes the loss of the inputs under several hundred conventions, finds both numbers among them, and names what the two
sides do differently: a mean over padding, a sum, another denominator, shifted labels, a mean of means, bits or
perplexity instead of nats, and so on, up to two causes on each side. A cause is tried only if it applies to the inputs
and changes their loss. If a number is infinite, it says what becomes too large for a dtype.

Each cause comes with what to change. A cause of THEIRS, which may be a recording, also comes with what to pass to
seqloss.sequence_loss to get the same. If a side may have a softcap, a temperature or a z-loss, pass its number: with
float32 losses it is seldom found otherwise.

It says how sure it is: certain, likely, "undecided" if numbers with so few digits would fit something anyway, or "none
of these" if nothing fits.

The inputs are a file of numpy.savez with the arrays logits [batch, time, classes], targets [batch, time] and, if there
are any, weights [batch, time]. Or they are a golden file; then THEIRS may be left out, and is the recorded loss. In
place of logits the file may have hidden [batch, time, features], kernel [features, classes] and bias [classes]. Give
the numbers with all the digits that you have: a number with three digits agrees with many conventions by chance.

exit status  0: the two are the same
             1: they differ, explained or not
             2: the request cannot be carried out: bad options, or a file that cannot be used
"""

_LAYER = ("hidden", "kernel", "bias")
_NUMBERS = ("softcap", "temperature", "z_loss")
_COLUMNS = (Column("cause"), Column("side"), Column("what it does"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("mine", type=float, metavar="MINE", help="one loss, as in 2.3025851")
    add("theirs", type=float, metavar="THEIRS", nargs="?", help="the other loss (default: that of the golden file)")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--inputs", type=Path, metavar="FILE.npz", help="logits, targets and weights, from numpy.savez")
    given.add_argument("--golden", type=Path, metavar="FILE.npz", help="the same, and THEIRS, from a golden file")
    add("--pad-id", type=int, metavar="LABEL", help="the label of padding, which a side may ignore")
    add("--world-size", type=int, metavar="N", help="the number of data-parallel ranks")
    add("--accumulation-steps", type=int, metavar="N", help="micro-batches whose gradients are added up")
    add("--micro-batches", type=_counts, metavar="N|A,B,C", help="the number of micro-batches, or the rows of each")
    add("--label-smoothing", type=float, metavar="EPS", help="the eps of label smoothing, in [0, 1)")
    add("--softcap", type=float, metavar="CAP", help="the cap of cap * tanh(logits / cap) (default: 30 and 50)")
    add("--temperature", type=float, metavar="T", help="what logits are divided by (default: 0.5, 0.7, 0.8, 2 and 4)")
    add("--z-loss", type=float, metavar="F", help="the factor of a squared log-sum-exp (default: 1e-4)")
    add("--rtol", type=float, metavar="R", help="the relative difference at which numbers agree (default: from digits)")
    output.add_arguments(parser)


def _counts(value: str) -> int | list[int]:
    try:
        numbers = [int(part) for part in value.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is neither a number nor numbers with commas") from None
    return numbers if len(numbers) > 1 else numbers[0]


def run(options: argparse.Namespace) -> int:
    """Explain; the exit status."""
    output.check(options)
    backends.need_numpy("the explanation")
    from seqloss.testing import explain_mismatch

    inputs, theirs = _given(options)
    if not math.isfinite(options.mine) and str(options.mine) == str(float(theirs)):
        raise OptionError(f"both losses are {options.mine}, which has no digits to compare")
    known = ("pad_id", "world_size", "accumulation_steps", "micro_batches", "label_smoothing", *_NUMBERS, "rtol")
    found = explain_mismatch(options.mine, theirs, inputs, **{name: getattr(options, name) for name in known})
    return output.give(_report(found, inputs), options)


def _given(options: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """The inputs, and the other loss."""
    if options.golden is None:
        if options.theirs is None:
            raise OptionError("there is only one loss; pass THEIRS too, or a golden file that has recorded it")
        arrays = archives.read(options.inputs, ("targets",), ("weights", "logits", *_LAYER))
        is_layer = "hidden" in arrays and "logits" not in arrays
        return arrays if is_layer else archives.read(options.inputs), options.theirs
    from seqloss.testing import golden

    recorded = golden.read(options.golden)
    names: tuple[str, ...] = ("logits", "targets", "weights")
    inputs = {name: recorded.inputs[name] for name in names if name in recorded.inputs}
    missing = [name for name in ("logits", "targets") if name not in inputs]
    if missing:
        raise OptionError(f"{options.golden} has recorded no {missing[0]}; it cannot be explained from it")
    if options.theirs is not None:
        return inputs, options.theirs
    loss = recorded.results.get("loss")
    if loss is None or loss.size != 1:
        raise OptionError(f"{options.golden} has recorded no loss that is one number; pass THEIRS")
    return inputs, loss


def _report(found: Any, inputs: dict[str, Any]) -> Report:
    from seqloss.testing.explain.result import conclusion

    same = found.verdict == "same"
    rows = [Row(str(cause), (cause.name, cause.side, cause.does), "bad", list(cause.advice)) for cause in found.causes]
    if not rows:
        name = str(found.certainty)
        rows = [Row(name, (name, "-", "-"), "good" if same else "bad")]
    or_this = "It could also be {}." if found.causes else "It could be {}."
    notes = [or_this.format(" and ".join(map(str, causes))) for causes in found.alternatives]
    notes += [f"Note: {note}." for note in found.notes]
    shapes = ", ".join(f"{name} {list(x.shape)} {x.dtype}" for name, x in inputs.items())
    return Report(
        "explain",
        "Why two losses of the same inputs differ",
        [("mine", repr(found.mine)), ("theirs", repr(found.theirs)), ("inputs", shapes)],
        _COLUMNS,
        rows,
        conclusion(found),
        same,
        found.as_dict(),
        notes,
    )
