"""Whether a backend agrees with the reference, and by how much it does not."""

from typing import Any, NamedTuple

import numpy as np

from seqloss.commands.processes import Outcome
from seqloss.parity.batch import Batch
from seqloss.parity.functions import BY_FORMULA, Function
from seqloss.testing import oracle, tolerances

Array = Any

DTYPE = "float32"
GRADIENTS = ("gradient", "gradient by autodiff")


class Expected(NamedTuple):
    """The results of the reference by name, what each entry may differ by in ULP, and where tokens are.

    The results of another function than the sequence loss have scales in place of lengths: the sizes of what was added
    up, in whose ULP a difference counts.
    """

    values: dict[str, Array]
    bounds: dict[str, Array]
    lengths: Array | None
    scales: dict[str, Array] = {}  # noqa: RUF012  # never written into


class Worst(NamedTuple):
    """The largest distance of a result from the reference, and what was allowed at that entry, in ULP."""

    ulp: float
    bound: float


class Verdict(NamedTuple):
    """A line of the report; ``status`` is "agrees", "disagrees", "crashed", "timed out" or "not installed"."""

    backend: str
    status: str
    problems: list[str]
    version: str | None = None
    device: str | None = None
    loss: float | None = None
    tokens: Worst | None = None
    gradient: Worst | None = None
    seconds: float | None = None
    install: str | None = None


def reference(batch: Batch, exact: bool) -> Expected:
    """Token losses and gradients of the oracle, reduced in its wide floats and kept in float64."""
    shape = batch.targets.shape
    nll = np.zeros(shape)
    slope = np.zeros(batch.logits.shape)
    bound = np.full(shape, tolerances.EXACT_ULPS if exact else tolerances.TIGHT_ULPS)
    tokens = int(batch.lengths.sum())
    # Row by row: the oracle holds several wide arrays of the size of its logits.
    for row, length in enumerate(batch.lengths):
        logits = batch.logits[row, :length]
        wide = oracle.tokens(logits, batch.targets[row, :length])
        nll[row, :length] = wide.nll
        slope[row, :length] = wide.slope / tokens
        bound[row, :length] = tolerances.EXACT_ULPS if exact else tolerances.token_bound(logits)
    values = {
        "text loss": nll[:-1].sum() / batch.text_lengths.sum(),
        "batch loss": nll.sum() / tokens,
        "token loss": nll,
        **dict.fromkeys(GRADIENTS, slope),
    }
    bounds = {
        "text loss": bound[:-1].max(),
        "batch loss": bound.max(),
        "token loss": bound,
        **dict.fromkeys(GRADIENTS, bound[..., None]),
    }
    return Expected({name: np.asarray(value) for name, value in values.items()}, bounds, batch.lengths)


def reference_of(function: Function, inputs: dict[str, Array]) -> Expected:
    """The value and gradients of another function than the sequence loss."""
    got, gradients = function.reference(**inputs)
    found = {"value": (got.value, got.scale), **{f"gradient of {name}": pair for name, pair in gradients.items()}}
    if function.explicit is not None:
        found |= {f"gradient of {name}{BY_FORMULA}": pair for name, pair in gradients.items()}
    values, scales = ({name: np.asarray(pair[i], np.float64) for name, pair in found.items()} for i in (0, 1))
    return Expected(values, dict.fromkeys(found, np.asarray(got.bound)), None, scales)


def judge(outcome: Outcome, expected: Expected) -> Verdict:
    """The verdict on what a worker left."""
    if outcome.failure is not None:
        return Verdict(outcome.framework, outcome.failure, [outcome.detail])
    facts = outcome.facts
    problems: list[str] = []
    worst: dict[str, Worst] = {}
    for name, actual in outcome.arrays.items():
        wrong = _wrong_kind(facts, name, actual, expected.values[name])
        if wrong is None:
            values, bounds = expected.values[name], expected.bounds[name]
            if expected.lengths is None:
                worst[name], wrong = _compare_scaled(actual, values, bounds, expected.scales[name])
            else:
                worst[name], wrong = _compare(actual, values, bounds, expected.lengths)
        if wrong is not None:
            problems.append(f"{name}{wrong}")
    return Verdict(
        outcome.framework,
        "disagrees" if problems else "agrees",
        problems,
        facts["version"],
        facts["device"],
        next((float(np.mean(outcome.arrays[name])) for name in ("text loss", "value") if name in worst), None),
        worst.get("token loss", worst.get("value")),
        max((worst[name] for name in worst if name.startswith("gradient")), default=None),
        facts["seconds"],
    )


def _wrong_kind(facts: dict[str, Any], name: str, actual: Array, expected: Array) -> str | None:
    """What is wrong before any value is looked at."""
    if name in facts["foreign"]:
        return " is no array of the framework"
    if facts["dtypes"][name] != DTYPE or actual.dtype != DTYPE:
        return f" has dtype {facts['dtypes'][name]}, expected {DTYPE}"
    if actual.shape != expected.shape:
        return f" has shape {list(actual.shape)}, expected {list(expected.shape)}"
    return None


def _compare(actual: Array, expected: Array, bound: Array, lengths: Array) -> tuple[Worst, str | None]:
    """The largest distance, and a description of the entry that is furthest beyond what is allowed, if one is."""
    if actual.ndim == 0:
        worst = Worst(float(tolerances.ulps(actual, expected, DTYPE)), float(bound))
        return worst, None if worst.ulp <= worst.bound else _describe((), actual, expected, worst)
    worst, furthest, problem = Worst(0.0, float(bound.min())), 1.0, None
    for row, length in enumerate(lengths):
        # Not "is there one that differs": NaN differs from itself.
        if not (actual[row, length:] == 0).all():
            return Worst(np.inf, 0.0), f" of row {row} is not exactly 0 in the padding"
        distance = tolerances.ulps(actual[row, :length], expected[row, :length], DTYPE)
        allowed = np.broadcast_to(bound[row, :length], distance.shape)
        at = np.unravel_index(distance.argmax(), distance.shape)
        worst = max(worst, Worst(float(distance[at]), float(allowed[at])))
        at = np.unravel_index((distance / allowed).argmax(), distance.shape)
        if distance[at] / allowed[at] > furthest:
            furthest = distance[at] / allowed[at]
            here = (row, *(int(index) for index in at))
            problem = _describe(here, actual[here], expected[here], Worst(float(distance[at]), float(allowed[at])))
    return worst, problem


def _compare_scaled(actual: Array, expected: Array, bound: Array, scale: Array) -> tuple[Worst, str | None]:
    """The same for results whose summands may cancel: zeros must be exact where there were none to add up."""
    distance = np.where(
        (expected == 0) & (scale == 0) & (actual != 0), np.inf, tolerances.ulps(actual, expected, DTYPE, scale)
    )
    if not distance.size:
        return Worst(0.0, float(bound)), None
    at = tuple(int(index) for index in np.unravel_index(distance.argmax(), distance.shape))
    worst = Worst(float(distance[at]), float(bound))
    return worst, None if worst.ulp <= worst.bound else _describe(at, actual[at], expected[at], worst)


def _describe(index: tuple[int, ...], actual: Any, expected: Any, distance: Worst) -> str:
    where = f"[{', '.join(map(str, index))}]" if index else ""
    return (
        f"{where} is {float(actual):.9g}, expected {float(expected):.9g}: "
        f"{distance.ulp:.3g} ULP, at most {distance.bound:g} allowed"
    )
