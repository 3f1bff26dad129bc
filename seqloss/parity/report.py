"""The verdicts, for people and for machines."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import seqloss
from seqloss.parity import bigram
from seqloss.parity.batch import MARGINS, Batch
from seqloss.parity.functions import DEFAULT
from seqloss.parity.judge import DTYPE, Expected, Verdict, Worst
from seqloss.parity.text import Text
from seqloss.testing import tolerances

_HEADS = ("backend", "version", "device", "loss", "token ULP", "grad ULP", "verdict", "time")
_RIGHT = {"loss", "token ULP", "grad ULP", "time"}


class Report(NamedTuple):
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


def as_json(report: Report) -> str:
    """One strict JSON object: what is not finite or not known is null."""
    text, batch = report.text, report.batch
    content = {
        "seqloss": seqloss.__version__,
        "function": report.function,
        "exact": report.exact,
        "agree": report.agree,
        "text": {
            "source": text.source,
            "sentences": batch.sentences,
            "bytes": batch.bytes,
            "truncated": report.truncated,
        },
        "batch": {
            "shape": list(batch.logits.shape),
            "dtype": DTYPE,
            "confident_tokens": len(MARGINS),
            "padding": batch.padding,
        },
        "inputs": {name: list(x.shape) for name, x in report.inputs.items()},
        "reference": report.scores,
        "bounds_ulp": _bounds(report.exact),
        "backends": [_as_dict(verdict) for verdict in report.verdicts],
    }
    return json.dumps(_finite(content), indent=2, allow_nan=False)


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


def _finite(x: Any) -> Any:
    if isinstance(x, dict):
        return {key: _finite(value) for key, value in x.items()}
    if isinstance(x, list):
        return [_finite(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def as_text(report: Report) -> str:
    """A heading, the table, what went wrong, and the conclusion; in ASCII, which every terminal can show."""
    lines = [*_heading(report), "", *_table(report.verdicts), ""]
    for verdict in report.verdicts:
        lines += [f"{verdict.backend} {verdict.status}: {problem}" for problem in verdict.problems]
    good, all_of = sum(verdict.status == "agrees" for verdict in report.ran), len(report.ran)
    lines += [
        f"{good} of {all_of} backend{'s' * (all_of != 1)} agree{'s' * (good == 1)} with the reference "
        "(float64 or wider, NumPy, independent of the library).",
        _what_ulp_is(report),
    ]
    return "\n".join(" ".join(line.splitlines()).encode("ascii", "backslashreplace").decode() for line in lines)


def _what_ulp_is(report: Report) -> str:
    if report.function != DEFAULT:
        return (
            "ULP: the worst difference, of what is allowed, in units of the last place of what was added up; "
            "what weight 0 removes must be exactly 0."
        )
    if report.exact:
        return (
            "ULP: the worst difference; half a unit is one rounding, so that backends which agree have the same bits. "
            "Padding must be exactly 0."
        )
    return (
        f"ULP: the worst difference, of what is allowed there: {tolerances.TIGHT_ULPS:g} where the logits of a token "
        f"span at most {tolerances.TIGHT_RANGE:g}, else {tolerances.WIDE_ULPS:g}; padding must be exactly 0."
    )


def _heading(report: Report) -> list[str]:
    batch, scores = report.batch, report.scores
    if report.function != DEFAULT:
        return _heading_of_function(report)
    first = "the first " if report.truncated else ""
    return [
        f"text    {report.text.source}: {first}{batch.sentences} sentences, {batch.bytes:,} bytes",
        f"batch   logits {list(batch.logits.shape)} {DTYPE}, {batch.padding:,} positions of padding, "
        f"{len(MARGINS)} confident tokens (margins {MARGINS[0]} to {MARGINS[-1]})",
        f"model   byte bigrams fitted on this text, {bigram.CLASSES} classes",
        f"loss    {scores['loss']:.6f} nats per byte = {scores['bits_per_byte']:.4f} bits per byte, "
        f"perplexity {scores['perplexity']:.4f} (of the text, without the confident tokens)",
    ]


def _heading_of_function(report: Report) -> list[str]:
    shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in report.inputs.items())
    return [
        f"text      {report.text.source}",
        f"function  {report.function} of {shapes}",
        f"loss      {report.scores['loss']:.6f}, the mean of what the reference returns",
    ]


def _table(verdicts: Sequence[Verdict]) -> list[str]:
    rows = [_HEADS, *map(_cells, verdicts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    rows.insert(1, tuple("-" * width for width in widths))
    return ["  ".join(_aligned(*cell) for cell in zip(row, widths, _HEADS, strict=True)).rstrip() for row in rows]


def _aligned(cell: str, width: int, head: str) -> str:
    return cell.rjust(width) if head in _RIGHT else cell.ljust(width)


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
