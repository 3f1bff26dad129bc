"""What right sequence losses have in common, asked of the losses of other libraries: not a measure, but a table."""

from typing import Any

from benchmarks import processes, tables
from examples import peers

SHOWN = {"holds": "yes", "numbers": "**no**", "refusal": "not refused", "digits": "digits lost", "not applicable": ""}
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
    differ, agree = _rows([of(found) for found in checked.values()])
    parts = [tables.render(("invariant", *map(_name, checked)), differ)]
    parts.append(
        f"In all else that applies to them these losses are right: {', '.join(f'`{name}`' for name in agree)}."
    )
    for name, found in checked.items():
        parts.append(f"**{_name(name)}.** {found['says']}")
        wrong = [finding for finding in found["findings"] if finding["verdict"] == "violated"]
        parts.append("\n".join(f"- {_what(finding)}" for finding in wrong) or "- Everything that applies holds.")
    missing = [f"{name}: {found['missing']}" for name, found in result.items() if "missing" in found]
    return "\n\n".join([*parts, *missing])


def _name(peer: str) -> str:
    return peer.replace("_", " ")


def _rows(found: list[dict[tuple[str, str], str]]) -> tuple[list[Any], list[str]]:
    """A row for each invariant on which losses differ, and the names of the others.

    Dtypes of one invariant in which all verdicts are the same share a row.
    """
    rows: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for invariant, dtype in dict.fromkeys(key for verdicts in found for key in verdicts):
        cells = tuple(verdicts.get((invariant, dtype), "not applicable") for verdicts in found)
        rows.setdefault((invariant, cells), []).append(dtype)
    differ, agree = [], []
    for (invariant, cells), dtypes in rows.items():
        if set(cells) <= {"holds", "not applicable"}:
            agree.append(invariant)
        else:
            what = invariant if "float32" in dtypes else f"{invariant}, {', '.join(dtypes)}"
            differ.append((what, *(SHOWN[cell] for cell in cells)))
    named = {what.partition(",")[0] for what, *_ in differ}
    return differ, [name for name in dict.fromkeys(agree) if name not in named]


def of(found: dict[str, Any]) -> dict[tuple[str, str], str]:
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
