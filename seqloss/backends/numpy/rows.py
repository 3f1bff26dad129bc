"""NumPy: going through the rows of logits, block by block and in several threads."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from seqloss.core import threads
from seqloss.core.protocol import Array

_BLOCK = 1 << 17
"""Logits in a block of a thread that is alone: half a megabyte in float32."""

_SHARED_BLOCK = 1 << 19
"""The most logits in a block where threads share the work: two megabytes in float32. Between two operations of NumPy a
thread waits for the lock of the interpreter; so the operations are longer there, though they leave the innermost
caches."""

_WORTH_A_THREAD = 1 << 18
"""Logits for which another thread pays."""

_WORTH_A_RUN = 1 << 14
"""Logits of used rows next to each other for which a block of their own pays; others are picked out."""

_FEW = 64
"""With fewer classes a block is turned, so that the rows and not the classes are next to each other: NumPy pays for
each of the short reductions otherwise."""

_MANY = 1024
"""Classes from which on sums are made in two steps."""

Rows = Any
"""A slice of rows, or an array of their numbers."""


def for_blocks(
    work: Callable[[Rows, Array, Array, Array, int], None], z: Array, index: Array, used: Array | None, dtype: Any
) -> None:
    """Call ``work(rows, block, at, own, axis)`` for all used rows, block by block.

    ``block`` are the logits of the rows, with the classes along ``axis``; ``own`` is room for as many numbers of
    ``dtype``, and ``at`` are the places of the labels in it when it is laid out flat.
    """
    classes = z.shape[1]
    axis = 0 if classes < _FEW else 1
    logits = classes * (len(z) if used is None else np.count_nonzero(used))
    workers = min(threads.allowed(), logits // _WORTH_A_THREAD)
    size = max(1, _widest(logits, workers, np.dtype(dtype).itemsize) // classes)
    pieces = _pieces(used, len(z), size, classes)
    if not pieces:
        return
    places = index if axis == 0 else index + np.arange(len(z)) * classes

    def blocks(mine: Iterator[Rows]) -> None:
        room = np.empty((min(size, len(z)), classes), dtype)
        numbered = np.arange(len(room))
        picked = None if isinstance(pieces[0], slice) else np.empty(room.shape, z.dtype)
        for rows in mine:
            place = places[rows]
            count = len(place)
            own = room[:count]
            # Clipped, because NumPy would otherwise check the numbers in a copy.
            block = z[rows] if picked is None else np.take(z, rows, 0, out=picked[:count], mode="clip")
            block = widened(block)
            if axis == 0:
                own = own.reshape(classes, -1)
                block, at = np.array(block.T, order="C"), place * count + numbered[:count]
            elif picked is None:
                at = place - rows.start * classes
            else:
                at = place + (numbered[:count] - rows) * classes
            work(rows, block, at, own, axis)

    def in_a_thread(mine: Iterator[Rows]) -> None:
        with np.errstate(all="ignore"):  # a thread does not inherit it
            blocks(mine)

    threads.share(in_a_thread, pieces, workers) if workers > 1 else blocks(iter(pieces))


def _widest(logits: int, workers: int, itemsize: int) -> int:
    """The logits of a block: two blocks for each thread, if they are neither too short nor too long."""
    if workers <= 1:
        return _BLOCK
    return max(_BLOCK, min(_SHARED_BLOCK * 4 // itemsize, logits // (2 * workers)))


def _pieces(used: Array | None, count: int, size: int, classes: int) -> list[Rows]:
    """The used ones of ``count`` rows in blocks of at most ``size``."""
    # Counting is faster than all().
    if used is None or np.count_nonzero(used) == count:
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]
    numbers = np.flatnonzero(used)
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    if len(numbers) * classes < (len(breaks) + 1) * _WORTH_A_RUN:
        return [numbers[start : start + size] for start in range(0, len(numbers), size)]
    # Long enough to be left where they are.
    runs = np.split(numbers, breaks)
    ends = [(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]
    return [slice(start, min(start + size, stop)) for first, stop in ends for start in range(first, stop, size)]


def total(x: Array, axis: int) -> Array:
    """Sums whose order of addition depends on the number of classes alone, so that blocks change no bit."""
    if axis == 0:
        # A single column would be added up in another order than several.
        return np.add.accumulate(x, axis=0)[-1] if x.shape[1] == 1 else np.add.reduce(x, axis=0)
    if x.shape[1] < _MANY:
        return np.add.reduce(x, axis=1)
    # Sixteen columns first: along the other axis NumPy adds up several numbers at a time.
    width = x.shape[1] // 16
    columns = np.add.reduce(x[:, : 16 * width].reshape(-1, 16, width), axis=1)
    return np.add.reduce(columns, axis=1) + np.add.reduce(x[:, 16 * width :], axis=1)


def widened(x: Array) -> Array:
    """Logits in a dtype that NumPy computes in: the same numbers."""
    if x.dtype == np.uint16:
        bits = x.astype(np.uint32)
        bits <<= np.uint32(16)
        return bits.view(np.float32)
    return x.astype(np.float32) if x.dtype == np.float16 else x
