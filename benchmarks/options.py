"""The options of the loss of a token on the big batch: what each takes beside the plain call."""

from collections.abc import Mapping
from typing import Any

import numpy as np

import seqloss
from benchmarks import contenders, large, machine, processes, tables, timing

PLAIN = "plain"


def options(numbers: Any) -> Mapping[str, dict[str, Any]]:
    """The options of a call by what they are called here; ``numbers`` is an array with one for each class."""
    return {
        PLAIN: {},
        "label_smoothing=0.1": {"label_smoothing": 0.1},
        "off_target, centred": {"label_smoothing": seqloss.Smoothing(0.1, off_target=True, centred=True)},
        "with a prior": {"label_smoothing": seqloss.Smoothing(0.1, prior=numbers)},
        "class_weights": {"class_weights": numbers},
        "z_loss=1e-4": {"z_loss": 1e-4},
        "softcap=30": {"softcap": 30.0},
        "soft targets": {},
    }


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    shape = large.QUICK_SHAPE if quick else large.SHAPE
    rounds = 3 if quick else 10
    rows: list[Any] = []
    for framework in machine.installed():
        rows += processes.call("options:race", cores, framework=framework, shape=shape, rounds=rounds)
    return {"shape": shape, "cores": cores or machine.cores(), "rows": rows}


def race(framework: str, shape: list[int], rounds: int) -> Any:
    """All options in turn, in each mode that one would run at this size."""
    module, batch = contenders.load(framework), contenders.make_batch(shape)
    soft = batch._replace(targets=np.full(shape, 1 / shape[-1], np.float32))
    placed, placed_soft = module.place(batch), module.place(soft)
    numbers = np.linspace(0.5, 2, shape[-1], dtype=np.float32)
    numbers = module.place(contenders.make_batch([1, 1, 2])._replace(weights=numbers)).weights
    calls: dict[tuple[str, str], timing.Call] = {}
    for mode in module.MODES:
        if (framework, mode) in large.SKIPPED:
            continue
        for name, given in options(numbers).items():
            arrays = placed_soft if name == "soft targets" else placed
            calls[mode, name] = module.ours(mode, **given)(*arrays)
    times = timing.interleaved(calls, rounds)
    return [
        {"framework": framework, "mode": mode, "option": name, **each._asdict()} for (mode, name), each in times.items()
    ]


def report(result: dict[str, Any]) -> str:
    rows = result["rows"]
    plain = {(row["framework"], row["mode"]): row for row in rows if row["option"] == PLAIN}
    lines = [
        (
            row["framework"],
            row["mode"],
            row["option"],
            tables.scaled(row["median"], "ms"),
            f"{row['best'] / plain[row['framework'], row['mode']]['best']:.2f}",
            f"{row['median'] / plain[row['framework'], row['mode']]['median']:.2f}",
        )
        for row in rows
    ]
    headers = ("framework", "mode", "option", "median ms", "best / plain", "median / plain")
    title = f"Logits {result['shape']}, value and gradient, {result['cores']} cores:"
    return f"{title}\n\n{tables.render(headers, lines)}"
