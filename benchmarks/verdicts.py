"""What right sequence losses have in common, asked of the losses of other libraries: not a measure, but a table."""

from typing import Any

from benchmarks import processes, tables
from examples import peers

_SHOWN = {"holds": "yes", "numbers": "**no**", "refusal": "not refused", "digits": "digits lost", "not applicable": ""}
_WORST = ("not applicable", "holds", "digits", "refusal", "numbers")


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    return {name: processes.call("verdicts:check", cores, peer=name) for name in peers.PEERS}


def check(peer: str) -> Any:
    from seqloss.testing import check_loss

    try:
        given = peers.PEERS[peer]()
    except ImportError as error:
        return {"missing": str(error)}
    return {**check_loss(**given).as_dict(), "says": (peers.PEERS[peer].__doc__ or "").strip()}


def report(result: dict[str, Any]) -> str:
    checked = {name: found for name, found in result.items() if "missing" not in found}
    rows = list(dict.fromkeys(key for found in checked.values() for key in _verdicts(found)))
    table = []
    for invariant, dtype in rows:
        what = invariant if dtype == "float32" else f"{invariant}, {dtype}"
        cells = [_verdicts(found).get((invariant, dtype), "not applicable") for found in checked.values()]
        table.append((what, *(_SHOWN[cell] for cell in cells)))
    head = ("invariant", *(f"{number}" for number in range(1, len(checked) + 1)))
    parts = [tables.render(head, table)]
    for number, (name, found) in enumerate(checked.items(), 1):
        parts.append(f"**{number}. {name.replace('_', ' ')}.** {found['says']}")
        wrong = [finding for finding in found["findings"] if finding["verdict"] == "violated"]
        parts.append("\n".join(f"- {_what(finding)}" for finding in wrong) or "- Everything that applies holds.")
    missing = [f"{name}: {found['missing']}" for name, found in result.items() if "missing" in found]
    return "\n\n".join([*parts, *missing])


def _verdicts(found: dict[str, Any]) -> dict[tuple[str, str], str]:
    """The verdict for each invariant and dtype, or the kind of its violation; the worst of several modes."""
    verdicts: dict[tuple[str, str], str] = {}
    for finding in found["findings"]:
        key = finding["invariant"], finding["dtype"]
        verdict = finding["kind"] if finding["verdict"] == "violated" else finding["verdict"]
        verdicts[key] = max(verdicts.get(key, verdict), verdict, key=_WORST.index)
    return verdicts


def _what(finding: dict[str, Any]) -> str:
    example = finding["example"]
    dtype = "" if finding["dtype"] == "float32" else f" in {finding['dtype']}"
    text = f"`{finding['invariant']}`{dtype}: {example['what']} is `{_short(example['got'])}`"
    return f"{text}, expected `{_short(example['expected'])}`, for logits `{_short(example['logits'])}`"


def _short(x: Any) -> str:
    text = str(x)
    return text if len(text) <= 60 else f"{text[:57]}..."
