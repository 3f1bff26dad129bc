"""The most memory that a call holds at a time."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import contenders, processes, side_by_side

# Allocators that give back what is freed. TensorFlow's pool, which comes with oneDNN, grows by doubling, and glibc
# takes larger and larger blocks from its heap: resident memory would not show the need.
UNPOOLED = {"TF_ENABLE_ONEDNN_OPTS": "0", "MALLOC_MMAP_THRESHOLD_": "1048576"}


def of(row: dict[str, Any], shapes: list[list[int]], cores: int | None) -> list[float | None]:
    """Of the contender that a row of a race names, for each shape of the logits, in a process of its own."""
    names = {key: row[key] for key in ("framework", "name", "mode")}
    result: list[float | None] = processes.call("peak:measure", cores, UNPOOLED, shapes=shapes, **names)
    return result


def measure(framework: str, name: str, mode: str, shapes: list[list[int]]) -> list[float | None]:
    (contender,) = (each for each in side_by_side.chosen(framework, [mode]) if each.name == name)
    module = contenders.load(framework)
    return [_one(module, contender, shape) for shape in shapes]


def _one(module: Any, contender: Any, shape: list[int]) -> float | None:
    """The peak of one call beside its arguments, in units of the logits; None if unknown."""
    batch = contenders.make_batch(shape)
    size = batch.logits.nbytes
    call = contender.setup(*module.place(batch))
    del batch
    # After placing: TensorFlow lets go of a NumPy array only when it is called again.
    peak = growth(call, contender.setup(*module.place(contenders.make_batch([2, 8, shape[-1]]))))
    return None if peak is None else peak / size


def growth(call: Callable[[], object], other: Callable[[], object]) -> int | None:
    """Bytes of the peak of a call beside what was there before; None if unknown.

    The gradient counts. What a first call builds (programs, thread pools) does not; what is kept for the next call
    does. So the baseline is taken after ``other``, a call of another size, the peak in the second call of this size.
    """
    other()
    gc.collect()
    baseline = _memory("VmRSS")
    call()
    if not _forget_peak():
        return None
    result = call()
    highest = _memory("VmHWM")
    del result
    return highest - baseline


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
