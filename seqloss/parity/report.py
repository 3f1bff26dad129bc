"""What there is to tell of the verdicts."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from seqloss.commands.report import Column, Figure, Report, Row, Status
from seqloss.parity import bigram
from seqloss.parity.batch import MARGINS, Batch
from seqloss.parity.functions import DEFAULT
from seqloss.parity.judge import DTYPE, Expected, Verdict, Worst
from seqloss.parity.text import Text
from seqloss.testing import tolerances

_COLUMNS = (
    Column("backend"),
    Column("version"),
    Column("device"),
    Column("loss", True),
    Column("token ULP", True),
    Column("grad ULP", True),
    Column("verdict"),
    Column("time", True),
)
_STATUS: dict[str, Status] = {"agrees": "good", "not installed": "neutral"}


class Told(NamedTuple):
    """All there is to tell."""

    text: Text
    batch: Batch
    expected: Expected
    verdicts: Sequence[Verdict]
    function: str
    inputs: dict[str, Any]
    """The arrays that the backends were given, by name."""
    exact: bool

    @property
    def ran(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.status != "not installed"]

    @property
    def agree(self) -> bool:
        return all(verdict.status == "agrees" for verdict in self.ran)

    @property
    def truncated(self) -> bool:
        """Whether the text has more than the batch holds."""
        return self.text.truncated or self.batch.sentences < len(self.text.sentences)

    @property
    def scores(self) -> dict[str, float]:
        """The loss of the text by the reference, in the three units people know; of another function the mean."""
        if self.function != DEFAULT:
            return {"loss": float(self.expected.values["value"].mean())}
        loss = float(self.expected.values["text loss"])
        return {"loss": loss, "bits_per_byte": loss / math.log(2), "perplexity": math.exp(loss)}


def build(told: Told, figures: Sequence[Figure]) -> Report:
    """The report of the command."""
    good, all_of = sum(verdict.status == "agrees" for verdict in told.ran), len(told.ran)
    conclusion = (
        f"{good} of {all_of} backend{'s' * (all_of != 1)} agree{'s' * (good == 1)} with the reference "
        "(float64 or wider, NumPy, independent of the library)."
    )
    return Report(
        "parity",
        f"{told.function} in every backend, compared with a reference",
        _heading(told),
        _COLUMNS,
        [_row(verdict) for verdict in told.verdicts],
        conclusion,
        told.agree,
        _data(told),
        [_what_ulp_is(told)],
        figures,
    )


def _data(told: Told) -> dict[str, Any]:
    text, batch = told.text, told.batch
    return {
        "function": told.function,
        "exact": told.exact,
        "agree": told.agree,
        "text": {
            "source": text.source,
            "sentences": batch.sentences,
            "bytes": batch.bytes,
            "truncated": told.truncated,
        },
        "batch": {
            "shape": list(batch.logits.shape),
            "dtype": DTYPE,
            "confident_tokens": len(MARGINS),
            "padding": batch.padding,
        },
        "inputs": {name: list(x.shape) for name, x in told.inputs.items()},
        "reference": told.scores,
        "bounds_ulp": _bounds(told.exact),
        "backends": [_as_dict(verdict) for verdict in told.verdicts],
    }


def _bounds(exact: bool) -> dict[str, float]:
    tight, wide = (0.5, 0.5) if exact else (tolerances.TIGHT_ULPS, tolerances.WIDE_ULPS)
    return {"tight": tight, "wide": wide, "range": tolerances.TIGHT_RANGE}


def _as_dict(verdict: Verdict) -> dict[str, Any]:
    """The verdict by name, with numbers instead of pairs of them."""
    fields = verdict._asdict()
    for name in ("tokens", "gradient"):
        worst = fields.pop(name)
        fields[f"{name}_ulp"], fields[f"{name}_bound"] = (None, None) if worst is None else worst
    return fields


def _what_ulp_is(told: Told) -> str:
    if told.function != DEFAULT:
        return (
            "ULP: the worst difference and what is allowed, in units of the last place of what was added up; what has "
            "weight 0 must be exactly 0."
        )
    if told.exact:
        return (
            "ULP: the worst difference; half a unit is one rounding, so backends that agree have the same bits. "
            "Padding must be exactly 0."
        )
    return (
        f"ULP: the worst difference and what is allowed there: {tolerances.TIGHT_ULPS:g} where the logits of a token "
        f"span at most {tolerances.TIGHT_RANGE:g}, else {tolerances.WIDE_ULPS:g}; padding must be exactly 0."
    )


def _heading(told: Told) -> list[tuple[str, str]]:
    text, batch, scores = told.text, told.batch, told.scores
    if told.function != DEFAULT:
        shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in told.inputs.items())
        return [
            ("text", text.source),
            ("function", f"{told.function} of {shapes}"),
            ("loss", f"{scores['loss']:.6f}, the mean of what the reference returns"),
        ]
    first = "the first " if told.truncated else ""
    confident = f"{len(MARGINS)} confident tokens (margins {MARGINS[0]} to {MARGINS[-1]})"
    padding = f"{batch.padding:,} positions of padding"
    bits = f"{scores['bits_per_byte']:.4f} bits per byte, perplexity {scores['perplexity']:.4f}"
    return [
        ("text", f"{text.source}: {first}{batch.sentences} sentences, {batch.bytes:,} bytes"),
        ("batch", f"logits {list(batch.logits.shape)} {DTYPE}, {padding}, {confident}"),
        ("model", f"byte bigrams fitted on this text, {bigram.CLASSES} classes"),
        ("loss", f"{scores['loss']:.6f} nats per byte = {bits} (of the text, without the confident tokens)"),
    ]


def _row(verdict: Verdict) -> Row:
    problems = [f"{verdict.backend} {verdict.status}: {' '.join(text.splitlines())}" for text in verdict.problems]
    status = _STATUS.get(verdict.status, "bad")
    return Row(verdict.backend, _cells(verdict), status, problems, status == "bad" and verdict.status != "disagrees")


def _cells(verdict: Verdict) -> tuple[str, ...]:
    def ulps(worst: Worst | None) -> str:
        return "-" if worst is None else f"{worst.ulp:.3g} of {worst.bound:.3g}"

    # What went wrong is to be found at a glance.
    status = verdict.status if verdict.status in ("agrees", "not installed") else verdict.status.upper()
    return (
        verdict.backend,
        verdict.version or "-",
        verdict.device or "-",
        "-" if verdict.loss is None else f"{verdict.loss:.6f}",
        ulps(verdict.tokens),
        ulps(verdict.gradient),
        status if verdict.install is None else f"{status}: {verdict.install}",
        "-" if verdict.seconds is None else f"{verdict.seconds * 1e3:,.1f} ms",
    )
