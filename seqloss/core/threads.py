"""Sharing the rows of a big array out to threads: NumPy computes on one core, but lets others run meanwhile."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class _Limit(threading.local):
    threads: int | None = None


_limit = _Limit()


class at_most:  # called like a function
    """A region in which the calling thread's work uses no more than ``count`` threads; None changes nothing."""

    def __init__(self, count: int | None) -> None:
        self._count = count

    def __enter__(self) -> None:
        self._before = _limit.threads
        if self._count is not None:
            _limit.threads = self._count

    def __exit__(self, *_: object) -> None:
        _limit.threads = self._before


def allowed() -> int:
    """How many threads may run: as a framework was told, else the cores, or OMP_NUM_THREADS if that is less."""
    if _limit.threads is not None:
        return _limit.threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(int(wanted), cores) if wanted.isdecimal() and int(wanted) > 0 else cores


def share(work: Callable[[int, int], None], count: int, worth: int) -> None:
    """Call ``work(first, last)`` until all of ``count`` pieces are done. A thread is started for every ``worth``."""
    threads = min(allowed(), count // max(1, worth))
    if threads <= 1:
        work(0, count)
        return
    # Several shares for each thread, so that a core which is busy elsewhere holds nobody up. A pool of its own, because
    # a pool that is kept does not survive a fork; to start one costs less than a thousandth of work that is worth it.
    step = -(-count // (threads * 4))
    with ThreadPoolExecutor(threads) as pool:
        for done in [_started(pool, work, first, min(first + step, count)) for first in range(0, count, step)]:
            if done is not None:
                done.result()


def _started(pool: ThreadPoolExecutor, work: Callable[[int, int], None], first: int, last: int) -> Future[None] | None:
    try:
        return pool.submit(work, first, last)
    except RuntimeError:  # when the main thread has ended Python starts no new ones, but others may still be at work
        work(first, last)
        return None
