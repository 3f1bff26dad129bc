"""NumPy: the loop over the rows of logits, block by block and in several threads."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqloss.backends.numpy import threads
from seqloss.backends.numpy.numbers import FEW, capped, less, widened
from seqloss.core.protocol import Array

_TINY = 1 << 16
"""Up to this many bytes all rows are one block, used or not: there a call of NumPy costs more than its work."""

_BLOCK = 1 << 17
"""Numbers in a room (the buffer of a thread) if there is one thread: half a megabyte in float32."""

_SHARED_BLOCK = 1 << 21
"""The largest room, in bytes, if threads share the work.

Between two operations of NumPy a thread waits for the lock of the interpreter, so the operations are longer there,
although they do not fit into the innermost caches.
"""

_WORTH_A_THREAD = 1 << 18
"""Logits for which another thread pays."""

_WORTH_A_RUN = 1 << 17
"""From this many logits in adjacent used rows on, a block without a copy pays off; other used rows are picked out."""

Rows = Any
"""A slice of rows, or an array of their numbers."""


class Block(NamedTuple):
    """Some rows of the logits, and room to compute in."""

    rows: Rows
    logits: Array
    """[rows, classes], contiguous, in a dtype that NumPy computes in."""
    rooms: Sequence[Array]
    """Of the same shape, in the dtype of the computation. Contiguous too, but the two axes may be swapped in memory."""
    first: Array
    """The place of class 0 of each row in the memory of a room."""
    step: int
    """How far the next class is from there."""

    @property
    def is_turned(self) -> bool:
        return self.step != 1

    def places(self, classes: Array) -> Array:
        """Where these classes, one for each row, are in the memory of a room."""
        return self.first + classes if self.step == 1 else self.first + classes * self.step

    def read(self, softcap: float | None) -> Array:
        """The logits, capped: as they are if there is nothing to do, else in the first room."""
        if softcap is not None:
            return capped(self.logits, softcap, self.rooms[0])
        if not self.is_turned:
            return self.logits
        np.copyto(self.rooms[0], self.logits)
        return self.rooms[0]

    def below_highest(self, softcap: float | None) -> tuple[Array, Array]:
        """Fill the first room with the logits, less the highest of their row. Return that, and a place where it was.

        NaN is higher than all.
        """
        own, x = self.rooms[0], self.read(softcap)
        if self.is_turned:
            # argmax (NumPy 2.4) takes 100 ns for a short row, and has no order but this in which it is fast.
            highest = np.maximum.reduce(x, axis=1)
            np.subtract(x, highest[:, None], out=own)
            places = (own.ravel("K") == 0).nonzero()[0]
            if len(places) == np.count_nonzero(np.isfinite(highest)) == len(highest):
                return highest, places
        # A cap keeps the order of the numbers. It may make two of them equal; then either will do.
        places = self.places(self.logits.argmax(axis=1))
        if not self.is_turned:
            highest = x.ravel("K")[places].astype(own.dtype, copy=False)
            less(x, highest, own)
        return highest, places

    def classes(self, places: Array) -> Array:
        """The class at a place in each row."""
        if not self.is_turned:
            return places - self.first
        classes = np.empty(self.step, places.dtype)
        classes[places % self.step] = places // self.step
        return classes

    def turned(self, x: Array) -> Array:
        """Numbers [rows, classes] in the memory order of a room."""
        return np.asfortranarray(x) if self.is_turned else x


def is_tiny(z: Array, dtype: Any) -> bool:
    """Whether :func:`for_blocks` makes one block of all rows, whose rooms belong to it alone."""
    return z.size * dtype.itemsize <= _TINY


def for_blocks(work: Callable[[Block], None], z: Array, used: Array | None, dtype: Any, rooms: int = 1) -> None:
    """Call ``work`` with all used rows of the logits, block by block; of tiny ones with all rows."""
    count, classes = z.shape
    if not count:
        return
    if is_tiny(z, dtype):
        work(_whole(z, dtype, rooms))
        return
    rows = count if used is None else np.count_nonzero(used)
    workers, size = _shares(rows * classes, dtype.itemsize)
    size = max(1, size // classes)
    if rows == count <= size:
        work(_whole(z, dtype, rooms))
        return
    pieces = slices(count, size) if rows == count else _pieces(used, size, classes)

    def blocks(mine: Iterator[Rows]) -> None:
        memory = np.empty((rooms, min(size, count) * classes), dtype)
        numbered = np.arange(min(size, count))
        starts = numbered * classes
        picked = None if isinstance(pieces[0], slice) else np.empty((len(numbered), classes), z.dtype)
        for rows in mine:
            n = rows.stop - rows.start if picked is None else len(rows)
            # Clipped, because NumPy would otherwise check the numbers in a copy.
            block = z[rows] if picked is None else np.take(z, rows, 0, out=picked[:n], mode="clip")
            block = widened(np.ascontiguousarray(block))
            if classes < FEW:
                work(Block(rows, block, [x[: n * classes].reshape(classes, n).T for x in memory], numbered[:n], n))
            else:
                work(Block(rows, block, [x[: n * classes].reshape(n, classes) for x in memory], starts[:n], 1))

    if pieces:
        _in_threads(blocks, pieces, workers, _buffer(classes))


def for_slices(work: Callable[[slice], None], count: int) -> None:
    """Call ``work`` with slices of ``count`` numbers."""
    workers, size = _shares(count, 4)
    if count <= size:
        work(slice(0, count))
        return

    def in_turn(mine: Iterator[slice]) -> None:
        for piece in mine:
            work(piece)

    _in_threads(in_turn, slices(count, size), workers, None)


def _in_threads(
    work: Callable[[Iterator[Rows]], None], pieces: Sequence[Rows], workers: int, buffer: int | None
) -> None:
    """Call ``work`` with an iterator of pieces, in this many threads, with this size of NumPy's buffer."""

    def with_buffer(mine: Iterator[Rows]) -> None:
        if buffer is None:
            work(mine)
            return
        before = np.setbufsize(buffer)
        try:
            work(mine)
        finally:
            np.setbufsize(before)

    def in_a_thread(mine: Iterator[Rows]) -> None:
        with np.errstate(all="ignore"):  # a thread does not inherit it
            with_buffer(mine)

    threads.share(in_a_thread, pieces, workers) if workers > 1 else with_buffer(iter(pieces))


def _buffer(classes: int) -> int | None:
    """The buffer size with which operations of a column and [rows, classes] are fast; None for NumPy's default.

    NumPy 2.4 goes through such a pair in pieces of its buffer. If two rows fit into the buffer, it first repeats the
    column for each class, which takes longer than the operation itself.
    """
    if not 256 < classes <= 4096:
        return None
    return 512 if classes <= 1024 else 2048


def _whole(z: Array, dtype: Any, rooms: int) -> Block:
    count, classes = z.shape
    block = widened(np.ascontiguousarray(z))
    if classes < FEW:
        memory = [np.empty((classes, count), dtype).T for _ in range(rooms)]
        return Block(slice(None), block, memory, np.arange(count), count)
    memory = [np.empty(z.shape, dtype) for _ in range(rooms)]
    return Block(slice(None), block, memory, np.arange(0, count * classes, classes), 1)


def _shares(logits: int, itemsize: int) -> tuple[int, int]:
    """How many threads there are for this many logits, and the logits of a block.

    Two blocks for each thread, if they are neither too short nor too long.
    """
    worth = logits // _WORTH_A_THREAD
    workers = min(threads.allowed(), worth) if worth > 1 else 1
    return workers, _BLOCK if workers == 1 else max(_BLOCK, min(_SHARED_BLOCK // itemsize, logits // (2 * workers)))


def _pieces(used: Array, size: int, classes: int) -> list[Rows]:
    """The used rows, of which some are not, in blocks of at most ``size``."""
    numbers = used.nonzero()[0]
    breaks = (numbers[1:] - numbers[:-1] > 1).nonzero()[0] + 1
    if len(numbers) * classes < (len(breaks) + 1) * _WORTH_A_RUN:
        return [numbers[start : start + size] for start in range(0, len(numbers), size)]
    # Long enough to be left where they are.
    runs = np.split(numbers, breaks)
    ends = [(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]
    return [slice(start, min(start + size, stop)) for first, stop in ends for start in range(first, stop, size)]


def slices(count: int, size: int) -> list[Rows]:
    """``count`` in pieces of at most ``size``."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
