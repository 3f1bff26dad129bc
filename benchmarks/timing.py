"""Timing on a machine that does other things too: round-robin, best of many, and the median beside it."""

import gc
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, TypeVar

Call = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)


class Timing(NamedTuple):
    """Seconds per call. The best is nearest to the cost of the code, the median to what a user sees."""

    best: float
    median: float
    rounds: int


def interleaved(calls: Mapping[Name, Call], rounds: int, slice_seconds: float = 0.002) -> dict[Name, Timing]:
    """Time every call in every round, so that a busy minute of the machine falls on all of them.

    A call shorter than ``slice_seconds`` is repeated to fill it and the mean over the slice is one sample, because
    the clock itself costs about as much as the shortest calls. Slices are shorter than what the system gives another
    process at a time, so that some of many samples are free of them.
    """
    every = samples(calls, rounds, slice_seconds)
    return {name: Timing(min(each), statistics.median(each), rounds) for name, each in every.items()}


def samples(calls: Mapping[Name, Call], rounds: int, slice_seconds: float = 0.002) -> dict[Name, list[float]]:
    """The seconds per call in each round."""
    repeats = {name: _repeats(call, slice_seconds) for name, call in calls.items()}
    found: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(_sample(call, repeats[name]))
    return found


def _repeats(call: Call, slice_seconds: float) -> int:
    call()  # whatever is built on the first call
    return max(1, round(slice_seconds / max(_sample(call, 1), 1e-7)))


def _sample(call: Call, repeats: int) -> float:
    # As timeit does: a collection that one contender provokes must not be paid by the next.
    enabled = gc.isenabled()
    gc.disable()
    try:
        if repeats > 1:
            call()  # the contender before has filled the caches with its own
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - start) / repeats
    finally:
        if enabled:
            gc.enable()
