"""The command ``selftest``: the invariants of the project's own suite, checked for any loss."""

import argparse
from typing import Any

from seqloss.commands import backends, functions, output
from seqloss.commands.report import Column, Report, Row, Status
from seqloss.core import extras
from seqloss.core.errors import OptionError

HELP = "check any loss against everything that correct sequence losses have in common"

DESCRIPTION = """\
Checks a loss for what every correct sequence loss has: padding that adds nothing, masks over NaN, empty batches, bad
labels, batches that are split or reordered, shifted logits, confident tokens, counts in half precision, upstream
gradients, compiled code, second derivatives. If a check fails, the smallest and plainest batch that fails is shown.

Without --against the loss is seqloss.sequence_loss, in every installed backend. These losses are known, so their name
is enough: torch.nn.functional:cross_entropy and linear_cross_entropy,
optax:softmax_cross_entropy_with_integer_labels, tensorflow.nn:sparse_softmax_cross_entropy_with_logits,
keras.losses:SparseCategoricalCrossentropy. For your own loss say how it is called and what it returns:

  seqloss selftest --against mine.losses:masked --backends torch --arguments logits,labels=targets,keep=mask
  seqloss selftest --against mine.losses:nll --backends jax --arguments logits,targets --returns tokens

A violation is a fact about the loss, not always a mistake in it. The module of the loss is imported, so its code runs.

exit status  0: everything that applies holds
             1: something is violated, or crashed or timed out
             2: the request cannot be carried out: bad options, no check that applies, or a loss that does not exist or
                is not called, or does not return, as the options say
"""

_COLUMNS = (
    Column("backend"),
    Column("invariant"),
    Column("mode"),
    Column("dtype"),
    Column("verdict"),
    Column("detail"),
)
_STATUS: dict[str, Status] = {"holds": "good", "violated": "bad", "crashed": "bad", "timed out": "bad"}

OWN = "seqloss:sequence_loss"

_CONVENTIONS = (
    *("arguments", "layout", "returns", "ignore_label", "gradient", "weight_gradient"),
    *("label_smoothing", "class_weights", "z_loss", "softcap", "denominator"),
)
_LONGEST_DETAIL = 72


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("--against", metavar="MODULE:FUNCTION", help=f"the loss (default: {OWN}); add --backends for one of your own")
    add(
        "--arguments",
        type=_names,
        metavar="A,B,C",
        help="its arguments: logits, targets, and weights, mask, float_mask or lengths; by keyword: y=targets; in "
        "the place of logits hidden, kernel or embedding, and bias",
    )
    add("--layout", metavar="NAME", help="batch [B, T, V] (default), packed [B * T, V] or time [T, B, V]")
    add("--returns", metavar="NAME", help="mean (default), sum, sum_and_count, or tokens: the losses, not reduced")
    add("--ignore-label", type=_label, metavar="N", help="the label to ignore")
    add(
        "--gradient", metavar="NAME", help="autodiff, or returned: (loss, gradient) (default: returned for NumPy alone)"
    )
    add(
        "--no-weight-gradient",
        dest="weight_gradient",
        action="store_const",
        const=False,
        help="by design it has no gradient with respect to its weights",
    )
    add("--label-smoothing", type=float, metavar="EPS", help="its labels are smoothed with EPS over all classes")
    add(
        "--class-weights",
        type=_numbers,
        metavar="A,B,C",
        help="the weight of each class; all batches have that many classes",
    )
    add("--z-loss", type=float, metavar="X", help="it adds X times the square of the log-sum-exp of each token")
    add("--softcap", type=float, metavar="CAP", help="its logits become CAP * tanh(logits / CAP)")
    add(
        "--denominator",
        metavar="NAME",
        help="its mean is over weights (default, with class weights if there are any), weights_alone, tokens, "
        "positions (padding too) or batch",
    )
    add("--invariants", type=_names, metavar="A,B", help="only these invariants (default: all)")
    add(
        "--modes",
        type=_names,
        metavar="A,B",
        help="compiled forms to compare: inductor, function, xla, jit (default: all)",
    )
    add("--seed", type=int, default=0, metavar="N", help="the seed of all random arrays (default: 0)")
    backends.add_arguments(parser, timeout=300.0, each="invariant")
    output.add_arguments(parser)


def _label(value: str) -> int:
    """A label, of at most 32 bits: those of JAX have no more."""
    try:
        label = int(value)
    except ValueError:
        label = 2**31
    if not -(2**31) <= label < 2**31:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number of 32 bits")
    return label


def _numbers(value: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, value.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is not a list of numbers, as in 0.5,1,2") from error


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


def run(options: argparse.Namespace) -> int:
    """Check the loss in each backend; the exit status."""
    output.check(options)
    backends.need_numpy("the check")
    loss = options.against or OWN
    if options.backends is None:
        options.backends = functions.framework(loss)
    choice = backends.select(options)
    conventions = _conventions(options)
    from seqloss.commands import selftest_run

    how = {name: getattr(options, name) for name in ("invariants", "modes", "seed")}
    how |= {"loss": loss, "conventions": conventions}
    outcomes = list(selftest_run.run_each(choice, how, options.timeout))
    for outcome in outcomes:
        if outcome.refusal is not None:
            raise OptionError(outcome.refusal)
    _check_that_something_was_asked(outcomes)
    return output.give(_report(loss, outcomes, choice.missing), options)


def _check_that_something_was_asked(outcomes: list[Any]) -> None:
    """Refuse a choice of which nothing applies: such a check would pass for any loss."""
    if any(outcome.failure for outcome in outcomes):
        return
    found = [finding for outcome in outcomes for finding in outcome.facts["check"]["findings"]]
    if all(finding["verdict"] not in _STATUS for finding in found):
        reasons = dict.fromkeys(f"{f['invariant']}: {f['detail']}" for f in found)
        raise OptionError(f"nothing of what was chosen applies to this loss ({'; '.join(reasons)})")


def _conventions(options: argparse.Namespace) -> dict[str, Any] | None:
    """The options about the loss; None if there are none, so that the known conventions are used."""
    from seqloss.testing.check import Conventions

    given = {name: value for name in _CONVENTIONS if (value := getattr(options, name)) is not None}
    if "arguments" in given:
        given["arguments"] = tuple(given["arguments"])
    Conventions(**given)  # what is wrong with them is said before anything is started
    return given or None


def _report(loss: str, outcomes: list[Any], missing: list[str]) -> Report:
    rows = [row for outcome in outcomes for row in _rows(outcome)]
    asked = [row for row in rows if row.status != "neutral"]
    good = sum(row.status == "good" for row in asked)
    rows += [Row(name, (name, "-", "-", "-", "not installed", extras.command(name)), "neutral") for name in missing]
    ran = ", ".join(f"{outcome.framework} {outcome.facts.get('version', outcome.failure)}" for outcome in outcomes)
    return Report(
        "selftest",
        f"{loss}, checked against what correct losses have in common",
        [("loss", loss), ("backends", ran)],
        _COLUMNS,
        rows,
        f"{good} of {len(asked)} checks that apply hold.",
        good == len(asked),
        {"loss": loss, "backends": [_data(outcome) for outcome in outcomes]},
    )


def _rows(outcome: Any) -> list[Row]:
    name = outcome.framework
    if outcome.failure is not None:
        cells = (name, "-", "-", "-", outcome.failure.upper(), "-")
        problem = f"{name} {outcome.failure}: {' '.join(outcome.detail.splitlines())}"
        return [Row(name, cells, "bad", [problem], True)]
    return [_row(name, finding) for finding in outcome.facts["check"]["findings"]]


def _row(backend: str, finding: dict[str, Any]) -> Row:
    invariant, mode, dtype, verdict, detail = (
        finding[name] for name in ("invariant", "mode", "dtype", "verdict", "detail")
    )
    from seqloss.testing.check import text

    detail = " ".join(detail.split())
    if len(detail) > _LONGEST_DETAIL:
        detail = f"{detail[: _LONGEST_DETAIL - 4]} ..."
    lost = verdict in ("crashed", "timed out")
    shown = verdict.upper() if lost else text.verdict(verdict, finding["kind"])
    name = f"{backend} {invariant} {mode} {dtype}"
    problems = [finding["shown"]] if lost or verdict == "violated" else []
    cells = (backend, invariant, mode, dtype, shown, detail or "-")
    return Row(name, cells, _STATUS.get(verdict, "neutral"), problems, lost)


def _data(outcome: Any) -> dict[str, Any]:
    facts = {"version": outcome.facts.get("version"), "check": outcome.facts.get("check")}
    return {"backend": outcome.framework, "status": outcome.failure or "ran", "detail": outcome.detail or None, **facts}
