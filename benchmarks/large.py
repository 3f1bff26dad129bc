"""The big batch: time and peak memory of value and gradient, on all cores."""

import gc
from pathlib import Path
from typing import Any

from benchmarks import contenders, machine, processes, side_by_side, tables

SHAPE = [32, 64, 32_000]
QUICK_SHAPE = [8, 32, 32_000]
MODES = ("eager", "compile", "jit", "XLA")
# Nobody would run it at this size.
SKIPPED = {("jax", "eager")}
# Whether the batch is padded, with a mask that leaves out half of the tokens.
CASES = {"full": False, "half masked": True}
# Allocators that give back what is freed. TensorFlow's pool, which comes with oneDNN, grows by doubling, and glibc
# takes larger and larger blocks from its heap: resident memory would not show the need.
_UNPOOLED = {"TF_ENABLE_ONEDNN_OPTS": "0", "MALLOC_MMAP_THRESHOLD_": "1048576"}


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    shape = QUICK_SHAPE if quick else SHAPE
    rounds = 3 if quick else 10
    result: dict[str, Any] = {"shape": shape, "cores": cores or machine.cores(), **{case: [] for case in CASES}}
    for framework in machine.installed():
        for case in CASES:
            arguments: dict[str, Any] = {"framework": framework, "shape": shape, "case": case, "rounds": rounds}
            result[case] += processes.call("large:race", cores, **arguments)
    for row in result["full"]:
        if "best" in row:
            names = {key: row[key] for key in ("framework", "name", "mode")}
            row["peak"] = processes.call("large:peak", cores, _UNPOOLED, shape=shape, **names)
    return result


def race(framework: str, shape: list[int], case: str, rounds: int) -> Any:
    batch = contenders.make_batch(shape, padded=CASES[case])
    return side_by_side.race(framework, batch, _modes(framework), rounds)


def peak(framework: str, name: str, mode: str, shape: list[int]) -> float | None:
    """The most memory that one call holds at a time beside its arguments, in units of the logits; None if unknown.

    The gradient counts. What a first call builds (programs, thread pools) does not; what is kept for the next call
    does. So the baseline is taken after a call of another size, the peak in the second call of this size.
    """
    (contender,) = (each for each in side_by_side.chosen(framework, [mode]) if each.name == name)
    module = contenders.load(framework)
    batch = contenders.make_batch(shape)
    size = batch.logits.nbytes
    call = contender.setup(*module.place(batch))
    del batch
    # After placing: TensorFlow lets go of a NumPy array only when it is called again.
    contender.setup(*module.place(contenders.make_batch([2, 8, shape[-1]])))()
    gc.collect()
    baseline = _memory("VmRSS")
    call()
    if not _forget_peak():
        return None
    result = call()
    highest = _memory("VmHWM")
    del result
    return float(highest - baseline) / size


def report(result: dict[str, Any]) -> str:
    threads = {row["framework"]: row["threads"] for row in result["full"] if "threads" in row}
    counts = ", ".join(f"{name} {count}" for name, count in threads.items())
    peaks = [
        (row["framework"], row["mode"], row["name"], "unknown" if row["peak"] is None else f"{row['peak']:.2f}")
        for row in result["full"]
        if "peak" in row
    ]
    return "\n\n".join(
        [
            f"Logits {result['shape']} float32, value and gradient, {result['cores']} cores; threads: {counts}",
            side_by_side.report(result["full"], "ms"),
            "The same with a mask that leaves out half of the tokens:",
            side_by_side.report(result["half masked"], "ms"),
            "Peak memory beside the arguments, gradient included, in units of the logits:",
            tables.render(("framework", "mode", "contender", "logits"), peaks),
        ]
    )


def _modes(framework: str) -> list[str]:
    return [mode for mode in MODES if (framework, mode) not in SKIPPED]


def _memory(field: str) -> int:
    """Bytes of resident memory: now (VmRSS), or the most since the peak was forgotten (VmHWM). Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def _forget_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
