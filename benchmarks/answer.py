"""The short tables of the pages, from the figures of several measures: what it costs, and what a loss can do."""

import json
from pathlib import Path
from typing import Any

from benchmarks import ratios, tables, verdicts
from benchmarks.plots import TITLES

_SIZES = {"big": 3, "middle": 1, "small": 0}
"""The places of three sizes among those of ``ratios``."""

COMPARED = {
    "seqloss_on_torch": "seqloss",
    "torch_cross_entropy": "PyTorch, `ignore_index=`",
    "optax_where": "optax, `where=`",
    "keras_ignore_class": "Keras, `ignore_class=`",
}
QUESTIONS = {
    "NaN in padding adds exactly 0": ("unsafe_masks", "float32"),
    "a batch without tokens is 0": ("empty", "float32"),
    "a label that is no class is refused": ("label_policy", "float32"),
    "confident tokens keep their digits": ("confident_tokens", "float32"),
    "an offset of the logits costs no digits": ("shift", "float32"),
    "float16 logits far from 0": ("far_from_0", "float16"),
    "70,000 tokens in float16": ("count_of_70000", "float16"),
    "weights may have gradients": ("weight_gradients", "float32"),
    "second derivatives": ("double_backward", "float32"),
    "compiled as eager": ("compiled_is_eager", "float32"),
}


def write(measured: Path, folder: Path) -> None:
    """``answer.md`` and ``compared.md``."""
    found = {name: json.loads((measured / f"{name}.json").read_text()) for name in ("ratios", "large", "verdicts")}
    device = json.loads((measured / "performance.json").read_text())["cuda"]["device"]
    (folder / "answer.md").write_text(cost(found["ratios"]["ratios"], found["large"]["large"], device) + "\n")
    (folder / "compared.md").write_text(compared(found["verdicts"]["verdicts"]) + "\n")


def cost(timed: dict[str, Any], large: dict[str, Any], device: str | None) -> str:
    """Loss and gradient beside what one would use instead, eagerly where a framework does that, else compiled."""
    rows = {row["framework"]: row["ratios"] for row in timed["rows"] if _is_usual(row)}
    names = [name for name in TITLES if name in rows]
    lines = [(size, *(f"{rows[name][at]:.2f}" for name in names)) for size, at in _SIZES.items()]
    lines.append(("memory", *(_peaks(large["rows"], name) for name in names)))
    shapes = [(size, *timed["shapes"][at]) for size, at in _SIZES.items()]
    sizes = [f"{size}: {b * t:,} tokens of {c:,} classes" for size, b, t, c in shapes]
    return "\n\n".join(
        [
            tables.render(("", *(TITLES[name] for name in names)), lines),
            f"Below 1 seqloss is faster. {'; '.join(sizes).capitalize()}, on {timed['cores']} cores. Memory: the peak "
            "of the big batch beside the arguments, in units of the logits, ours / theirs.",
            f"GPUs: {'not measured' if device is None else f'measured on {device}'}.",
        ]
    )


def _is_usual(row: dict[str, Any]) -> bool:
    return row["what"] == ratios.BOTH and (row["kernel"] == "C" or row["framework"] == "jax")


def _peaks(rows: list[Any], framework: str) -> str:
    """Ours and the peer's, in units of the logits."""
    mode = "jit" if framework == "jax" else "eager"
    full = [row for row in rows if (row["framework"], row["mode"], row["case"]) == (framework, mode, "full")]
    ours, peer = (next(row["peak"] for row in full if row["ours"] == which) for which in (True, False))
    return f"{ours:.1f} / {peer:.1f}"


def compared(result: dict[str, Any]) -> str:
    """Some verdicts in words, of the libraries that leave tokens out by themselves."""
    found = {name: verdicts.of(result[name]) for name in COMPARED}
    lines = [
        (what, *(verdicts.SHOWN[found[name].get(key, "not applicable")] for name in COMPARED))
        for what, key in QUESTIONS.items()
    ]
    return tables.render(("", *COMPARED.values()), lines)
