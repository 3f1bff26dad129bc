"""NumPy: the cross-entropy kernel and its pullback. The formulas stand in ``seqloss.core.protocol``.

Both go through the rows in blocks that stay in a core's cache, so that memory is read once and nothing but the result
is allocated, and big arrays are shared out to threads. Between two operations of NumPy a thread holds the lock of the
interpreter, so all that is small is done once for all rows.

Eager arrays of other frameworks come here too (``seqloss.core.hosted``): logits in uint16 are the bits of bfloat16.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqloss.core import threads
from seqloss.core.protocol import SMALLEST_ACTIVE, Array, TokenStatistics

_BLOCK = 1 << 17
"""Logits in a block: half a megabyte in float32."""

_WORTH_A_THREAD = 1 << 19
"""Logits for which starting a thread pays."""

_FEW = 64
"""With fewer classes a block is turned, so that the rows and not the classes are next to each other: NumPy pays for
each of the short reductions otherwise."""

_ALIGNMENT = 64
"""Of the memory of big gradients, in bytes; there are frameworks that take no other over without a copy."""

Rows = Any
"""A slice of rows, or an array of their numbers."""


def token_nll(logits: Array, targets: Array, active: Array | None, dtype: str) -> TokenStatistics:
    z, index, legal = _prepare(logits, targets)
    count, used = len(z), None if active is None else active.ravel()
    shift, (gap, rest) = np.zeros((count, 1), _compute_dtype(z)), np.zeros((2, count), dtype)

    def forward(rows: Rows, block: Array, at: Array, own: Array, axis: int) -> None:
        highest = np.maximum.reduce(block, axis=axis, keepdims=True)
        np.subtract(block, highest, out=own, dtype=own.dtype)
        flat = own.ravel()
        gap[rows] = flat[at]
        np.exp(own, out=own)
        flat[at] = 0
        shift[rows], rest[rows] = highest.reshape(-1, 1), _sum(own, axis)

    _for_blocks(forward, z, index, used, rest.dtype)
    if legal is not None:
        rest[~legal if used is None else ~legal & used] = np.nan
    # A row whose largest logit is not finite becomes NaN by itself, inf - inf, and one that was skipped 0.
    excess = np.expm1(gap)
    excess += rest
    nll = np.log1p(excess)
    nll -= gap
    excess += 1
    shift = shift[:, 0].astype(dtype, copy=False)
    return TokenStatistics(*(x.reshape(targets.shape) for x in (nll, shift, excess)))


def token_nll_pullback(
    cotangent: Array, logits: Array, targets: Array, active: Array | None, statistics: TokenStatistics
) -> Array:
    z, index, _ = _prepare(logits, targets)
    g, nll, shift, total = (x.reshape(-1, 1) for x in (cotangent, *statistics))
    used = (g != 0).ravel() if active is None else (g != 0).ravel() & active.ravel()
    gradient = _zeros(z)
    is_exact = nll.dtype != _compute_dtype(z)
    scale = g / total
    at_target = (g * np.expm1(-nll)).ravel()
    # Where all logits of a row are above this, no entry is a subnormal float32.
    faintest = np.log(SMALLEST_ACTIVE) - np.log(abs(scale)) + shift + 0.125 if is_exact else shift

    def backward(rows: Rows, block: Array, at: Array, own: Array, axis: int) -> None:
        in_place = axis == 1 and isinstance(rows, slice) and gradient.dtype == own.dtype
        out = gradient[rows] if in_place else own
        per_row = (1, -1) if axis == 0 else (-1, 1)
        is_faint = is_exact and not (block.min(axis=axis) > faintest[rows].ravel()).all()
        np.subtract(block, shift[rows].reshape(per_row), out=out, dtype=out.dtype)
        np.exp(out, out=out)
        out *= scale[rows].reshape(per_row)
        out.ravel()[at] = at_target[rows]
        if is_faint:
            out[abs(out) < SMALLEST_ACTIVE] = 0
        if not in_place:
            narrowed = _narrowed(out, gradient.dtype)
            gradient[rows] = narrowed.T if axis == 0 else narrowed

    _for_blocks(backward, z, index, used, nll.dtype)
    return (gradient if gradient.dtype == logits.dtype else gradient.view(logits.dtype)).reshape(logits.shape)


def differentiable_token_nll(logits: Array, targets: Array, active: Array | None) -> Array:
    """NumPy differentiates nothing: this is the forward kernel."""
    return token_nll(logits, targets, active, "float64" if logits.dtype == np.float64 else "float32").nll[()]


def _for_blocks(
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
            block = _widened(block)
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


def _sum(x: Array, axis: int) -> Array:
    """Sums whose order of addition depends on the number of classes alone, so that blocks change no bit."""
    # A single column would be added up in another order than several.
    return np.add.accumulate(x, axis=0)[-1] if axis == 0 and x.shape[1] == 1 else np.add.reduce(x, axis=axis)


def _prepare(logits: Array, targets: Array) -> tuple[Array, Array, Array | None]:
    """Logits [tokens, classes], the label as an index that is always legal, and whether it was; None if all were."""
    z = logits.reshape(-1, logits.shape[-1])
    if z.dtype.kind == "V":  # bfloat16, which is a stranger to NumPy
        z = z.view(np.uint16)
    index = targets.reshape(-1).astype(np.intp, copy=False)
    legal = index.view(np.uintp) < z.shape[1]  # what is negative is huge
    if np.count_nonzero(legal) == legal.size:
        return z, index, None
    return z, np.where(legal, index, 0), legal


def _compute_dtype(z: Array) -> Any:
    return z.dtype if z.dtype == np.float64 else np.dtype(np.float32)


def _widened(x: Array) -> Array:
    """Logits in a dtype that NumPy computes in: the same numbers."""
    if x.dtype == np.uint16:
        return np.left_shift(x, 16, dtype=np.uint32).view(np.float32)
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _narrowed(x: Array, dtype: Any) -> Array:
    """Numbers in the dtype of the logits, rounded once."""
    if x.dtype == np.float64 and dtype.itemsize == 2:
        # Rounded to odd on the way: float32 keeps a trace of what is cut off, so that nothing is rounded twice.
        bits = x.view(np.uint64)
        cut = np.uint64((1 << 29) - 1)
        x = ((bits & ~cut) | (((bits & cut) != 0).astype(np.uint64) << np.uint64(29))).view(np.float64)
        x = x.astype(np.float32)
    if dtype != np.uint16:
        return x.astype(dtype, copy=False)
    bits = x.view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), rounded.astype(np.uint16))


def _zeros(z: Array) -> Array:
    """Zeros like ``z``, from the system where they are many: rows that nobody writes to are never made."""
    if z.nbytes < 1 << 20:
        return np.zeros(z.shape, z.dtype)
    memory = np.zeros(z.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + z.nbytes].view(z.dtype).reshape(z.shape)
