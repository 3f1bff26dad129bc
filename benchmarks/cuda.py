"""The big batch on a CUDA device: PyTorch's contenders by the clock of the device, beside the floor of its memory.

JAX and TensorFlow compute on their default device in all measures: where they were installed with CUDA, those show it.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import contenders, machine, processes, side_by_side, tables

SHAPE, QUICK_SHAPE = [32, 256, 32_000], [8, 32, 32_000]
MODES = ("eager", "compile")
CASES = {"float32": (False, "float32"), "half masked": (True, "float32"), "bfloat16 logits": (False, "bfloat16")}


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    device = processes.call("cuda:device") if "torch" in machine.installed() else None
    if device is None:
        return {"device": None}
    shape = QUICK_SHAPE if quick else SHAPE
    rows, floors = processes.call("cuda:race", shape=shape, rounds=3 if quick else 20)
    return {"device": device, "shape": shape, "rows": rows, "floors": floors}


def report(result: dict[str, Any]) -> str:
    if result["device"] is None:
        return "PyTorch sees no CUDA device: nothing is measured there."
    lines = []
    for row in result["rows"]:
        peer = _peer(row, result["rows"])
        floor = result["floors"][row["case"]]
        lines.append(
            (
                row["case"],
                row["mode"],
                row["name"],
                f"{row['best'] * 1e3:.3f}",
                f"{row['best'] / peer['best']:.2f}" if row["ours"] and peer else "",
                f"{row['best'] / floor:.1f}",
                f"{row['peak']:.2f}",
            )
        )
    headers = ("case", "mode", "contender", "best ms", "best / peer", "best / floor", "memory")
    floors = ", ".join(f"{case} {seconds * 1e3:.3f} ms" for case, seconds in result["floors"].items())
    return "\n\n".join(
        [
            f"{result['device']}; logits {result['shape']}, value and gradient, by device events",
            tables.render(headers, lines),
            f"The floor is one copy of the logits, read once and written once: {floors}. Memory is the peak beside the "
            "arguments, gradient included, in units of the logits.",
        ]
    )


def device() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def race(shape: list[int], rounds: int) -> Any:
    import torch

    from benchmarks.contenders import torch as module

    rows, floors = [], {}
    for case, (padded, dtype) in CASES.items():
        placed = module.place(contenders.make_batch(shape, padded), dtype, "cuda")
        logits = placed.logits.detach()
        calls: dict[Any, Callable[[], Any]] = {"floor": partial(torch.empty_like(logits).copy_, logits)}
        reference: Any = None
        for each in side_by_side.chosen("torch", MODES):
            call = each.setup(*placed)
            result = side_by_side.excerpt(module, call())
            reference = result if reference is None else reference
            side_by_side.must_agree(each, result, reference, dtype)
            calls[each] = call
        samples: dict[Any, list[float]] = {key: [] for key in calls}
        for _ in range(rounds):
            for key, call in calls.items():
                samples[key].append(_seconds(call))
        floors[case] = min(samples.pop("floor"))
        for each, times in samples.items():
            names = {"case": case, "mode": each.mode, "name": each.name, "ours": each.ours}
            figures = {"best": min(times), "median": statistics.median(times), "rounds": rounds}
            rows.append({**names, **figures, "peak": _peak(calls[each], placed.logits)})
    return rows, floors


def _seconds(call: Callable[[], Any]) -> float:
    """Between two events on the device: what the host did meanwhile counts only where the device had to wait for it."""
    import torch

    call()  # the contender before has filled the caches with its own
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _peak(call: Callable[[], Any], logits: Any) -> float:
    """The most memory that one call takes beside its arguments, in units of the logits."""
    import torch

    logits.grad = None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    logits.grad = None
    return float(peak) / float(logits.nbytes)


def _peer(row: dict[str, Any], rows: list[Any]) -> Any:
    same = (r for r in rows if not r["ours"] and (r["case"], r["mode"]) == (row["case"], row["mode"]))
    return next(same, None)
