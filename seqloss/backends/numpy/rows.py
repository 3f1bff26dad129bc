"""NumPy: going through the rows of logits, block by block and in several threads."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqloss.core import threads
from seqloss.core.protocol import Array

_BLOCK = 1 << 17
"""Logits in a block: half a megabyte in float32."""

_WORTH_A_THREAD = 1 << 19
"""Logits for which starting a thread pays."""

_FEW = 64
"""With fewer classes a block is turned, so that the rows and not the classes are next to each other: NumPy pays for
each of the short reductions otherwise."""

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
    size = max(1, _BLOCK // classes)
    # Counting is faster than all().
    numbers = None if used is None or np.count_nonzero(used) == used.size else np.flatnonzero(used)
    count = len(z) if numbers is None else len(numbers)

    def blocks(first: int, last: int) -> None:
        room = np.empty((min(size, last - first), classes), dtype)
        numbered = np.arange(len(room))
        picked = None if numbers is None else np.empty(room.shape, z.dtype)
        for start in range(first, last, size):
            stop = min(start + size, last)
            rows: Rows = slice(start, stop) if numbers is None else numbers[start:stop]
            own, place = room[: stop - start], numbered[: stop - start]
            # Clipped, because NumPy would otherwise check the numbers in a copy.
            block = z[rows] if picked is None else np.take(z, rows, 0, out=picked[: stop - start], mode="clip")
            block = widened(block)
            if axis == 0:
                own = own.reshape(classes, -1)
                block, at = np.array(block.T, order="C"), index[rows] * len(place) + place
            else:
                at = place * classes + index[rows]
            work(rows, block, at, own, axis)

    def in_a_thread(first: int, last: int) -> None:
        with np.errstate(all="ignore"):  # a thread does not inherit it
            blocks(first, last)

    if count > size:
        threads.share(in_a_thread, count, size, _WORTH_A_THREAD // classes)
    elif count:
        blocks(0, count)


def total(x: Array, axis: int) -> Array:
    """Sums whose order of addition depends on the number of classes alone, so that blocks change no bit."""
    # A single column would be added up in another order than several.
    return np.add.accumulate(x, axis=0)[-1] if axis == 0 and x.shape[1] == 1 else np.add.reduce(x, axis=axis)


def widened(x: Array) -> Array:
    """Logits in a dtype that NumPy computes in: the same numbers."""
    if x.dtype == np.uint16:
        return np.left_shift(x, 16, dtype=np.uint32).view(np.float32)
    return x.astype(np.float32) if x.dtype == np.float16 else x
