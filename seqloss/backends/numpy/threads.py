"""Share the rows of a big array among threads: NumPy computes on one core, but lets others run meanwhile."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

_Piece = TypeVar("_Piece")


class _Limit(threading.local):
    threads: int | None = None


_limit = _Limit()


class at_most:  # called like a function
    """A region in which work of the calling thread uses at most ``count`` threads; None changes nothing."""

    def __init__(self, count: int | None) -> None:
        self._count = count

    def __enter__(self) -> None:
        self._before = _limit.threads
        if self._count is not None:
            _limit.threads = self._count

    def __exit__(self, *_: object) -> None:
        _limit.threads = self._before


def allowed() -> int:
    """How many threads may run: as set in a framework, else the cores, or OMP_NUM_THREADS if that is less."""
    if _limit.threads is not None:
        return _limit.threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(int(wanted), cores) if wanted.isdecimal() and int(wanted) > 0 else cores


def share(work: Callable[[Iterator[_Piece]], None], pieces: Sequence[_Piece], threads: int) -> None:
    """Call ``work`` in each of this many threads, of which the caller is the first; each takes the next piece.

    So a core that is busy elsewhere delays no other. Calls that come from several threads share the helpers; a call
    that gets none does its work alone.
    """
    threads = min(threads, len(pieces))
    if threads <= 1:
        work(iter(pieces))
        return
    waiting = list(reversed(pieces))
    helpers = [helper for _ in range(threads - 1) if (helper := _started(work, _taken_from(waiting)))]
    try:
        work(_taken_from(waiting))
    finally:
        waiting.clear()
        # All of them first, so that none is still at work on the arrays when the error of another one is raised.
        running = [helper for helper in helpers if not helper.cancel()]
        wait(running)
        for helper in running:
            helper.result()


def _taken_from(waiting: list[_Piece]) -> Iterator[_Piece]:
    while True:
        try:
            yield waiting.pop()
        except IndexError:
            return


_helpers: list[ThreadPoolExecutor] = []
"""The helper threads, once there are any.

Starting them for each call would cost half a millisecond, in which a core computes a third of a million logits.
"""


def _started(work: Callable[..., None], pieces: Iterator[_Piece]) -> Future[None] | None:
    if not _helpers:
        # Two that come here at once make two, of which one is used and the other, without threads yet, forgotten.
        _helpers.append(ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "seqloss"))
    try:
        return _helpers[0].submit(work, pieces)
    except RuntimeError:  # when the main thread has ended Python starts no new ones, but others may still be at work
        return None


# Threads do not survive a fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.clear)
