"""NumPy: numbers of one dtype as those of another, capped logits, and sums over classes."""

import math
from typing import Any

import numpy as np

from seqloss.core.contract import SMALLEST_ACTIVE
from seqloss.core.protocol import Array

FLOAT64 = np.dtype("float64")
BITS = np.dtype("uint16")
"""Of bfloat16."""
_FLOAT16 = np.dtype("float16")

FEW = 64
"""With fewer classes the numbers of a block are transposed in memory, so that rows and not classes are adjacent.

Otherwise NumPy 2.4 has a cost for each of the short reductions.
"""

_MANY = 1024
"""Classes from which on sums of float32 are made in two steps."""

_SMALL = 2.0**-16
"""A number below this does not have enough digits on the usual grid."""

_ALIGNMENT = 64
"""The alignment of big gradients, in bytes: TensorFlow 2.21 takes over no other memory without a copy."""


def rows_of(logits: Array) -> Array:
    """Logits as [tokens, classes]; those in bfloat16, which NumPy lacks, as bits in uint16."""
    z = logits.reshape(-1, logits.shape[-1])
    return z.view(np.uint16) if z.dtype.kind == "V" else z


def like(x: Array, logits: Array) -> Array:
    """What belongs to :func:`rows_of` logits, in the shape and the dtype of the logits."""
    return (x if x.dtype == logits.dtype else x.view(logits.dtype)).reshape(logits.shape)


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros for a gradient. Many come from the system, so that rows that nobody writes to cost no memory."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < 1 << 20:
        return np.zeros(shape, dtype)
    memory = np.zeros(nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + nbytes].view(dtype).reshape(shape)


def widened(x: Array) -> Array:
    """Logits in a dtype that NumPy computes in: the same numbers."""
    if x.dtype == BITS:
        bits = x.astype(np.uint32)
        bits <<= np.uint32(16)
        return bits.view(np.float32)
    return x.astype(np.float32) if x.dtype == _FLOAT16 else x


def narrowed(x: Array, dtype: Any) -> Array:
    """Numbers that are rounded once when they are assigned to an array of this dtype. ``x`` is written into."""
    if dtype.itemsize > 2:
        return x
    if x.dtype == FLOAT64:
        # Rounded to odd on the way: float32 keeps a trace of what is cut off, so that nothing is rounded twice.
        bits = x.view(np.uint64)
        cut = np.uint64((1 << 29) - 1)
        is_cut = (bits & cut) != 0
        bits &= ~cut
        bits |= is_cut.astype(np.uint64) << np.uint64(29)
        x = x.astype(np.float32)
    if dtype != BITS:
        # Multiples of the smallest float16 where it has no more digits: NumPy 2.4 takes 50 times as long for what it
        # has to round there, because it reports each as an underflow.
        multiples = x + np.float32(0.75)
        multiples -= np.float32(0.75)
        return np.where(abs(x) < 2.0**-14, np.copysign(multiples, x), x)
    # To the nearest, ties to even. A NaN stays one, because those of the kernels have no bits at the end.
    bits = x.view(np.uint32)
    half = bits >> np.uint32(16)
    half &= np.uint32(1)
    half += np.uint32(0x7FFF)
    half += bits
    half >>= np.uint32(16)
    return half


def plain_nan(x: Array) -> Array:
    """``x`` with NaN that :func:`narrowed` keeps: there are many, and some of them would be rounded to 0."""
    return np.where(np.isnan(x), x.dtype.type(np.nan), x)


def zero_if_faint(x: Array) -> None:
    """Put 0 in place of what is below the smallest normal float32."""
    x[abs(x) < SMALLEST_ACTIVE] = 0


def capped(x: Array, softcap: float, out: Array) -> Array:
    """``softcap * tanh(x / softcap)`` in the dtype of ``out``; infinities stay what they are."""
    np.divide(x, softcap, out=out, dtype=out.dtype)
    if out.dtype == FLOAT64:
        # tanh is (1 - e) / (1 + e) with e = exp(-2 abs(x)), because the tanh of NumPy is not that of the others.
        np.abs(out, out=out)
        out *= -2
        np.expm1(out, out=out)
        out /= out + 2
        out *= -softcap
        np.copysign(out, x, out=out)
    else:
        np.tanh(out, out=out)
        out *= softcap
    infinite = np.isinf(x)
    if np.count_nonzero(infinite):
        np.copyto(out, x, where=infinite)
    return out


def cap_slope(x: Array, softcap: float, dtype: Any) -> Array:
    """The derivative of :func:`capped`."""
    e = np.divide(x, softcap, dtype=dtype)
    np.abs(e, out=e)
    e *= -2
    np.exp(e, out=e)
    below = e + 1
    below *= below
    e *= 4
    e /= below
    return e


def less(x: Array, shift: Array, out: Array) -> Array:
    """``x`` less the number of its row, in the dtype of ``out``."""
    if x.dtype == out.dtype:
        return np.subtract(x, shift[:, None], out=out)
    # Two steps are faster than one, in which NumPy 2.4 casts piece by piece.
    np.copyto(out, x)
    out -= shift[:, None]
    return out


def rows_in_order(x: Array, chosen: Array) -> Array:
    """Some rows of [rows, classes], in the order in memory that a room has."""
    return np.asarray(x[chosen], order="F" if x.shape[1] < FEW else "C")


def sum_of_others(powers: Array, places: Array, spare: Array) -> Array:
    """The sums over the classes of what is in a room, of which the numbers at these places in memory become 0.

    In float64 no order of the classes changes them, and ``spare`` is written into.
    """
    powers.ravel("K")[places] = 0
    return _total_in_any_order(powers, spare) if powers.dtype == FLOAT64 else total(powers)


def total(x: Array) -> Array:
    """The sums over the classes of what is in a room, in an order that depends only on the number of classes.

    So the result is the same bits for every size of block.
    """
    classes = x.shape[1]
    if classes < FEW:
        # NumPy 2.4 would add up a single row in another order than several.
        return np.add.accumulate(x, axis=1)[:, -1] if len(x) == 1 else np.add.reduce(x, axis=1)
    if classes < _MANY or x.dtype == FLOAT64:
        return np.add.reduce(x, axis=1)
    # Sixteen columns first: along the other axis NumPy 2.4 adds up several numbers at a time.
    width = classes // 16
    columns = np.add.reduce(x[:, : 16 * width].reshape(-1, 16, width), axis=1)
    return np.add.reduce(columns, axis=1) + np.add.reduce(x[:, 16 * width :], axis=1)


def _total_in_any_order(x: Array, spare: Array) -> Array:
    """Sums of numbers from 0 to 1, in which all bits but the smallest add up without an error.

    ``x + grid`` is rounded to a multiple of a power of 2, which can be read from its bits and added to others as an
    integer. The rest is so small that the rounding of its sum does not matter.
    """
    classes = x.shape[1]
    digits = min(51, 63 - classes.bit_length())
    grid: Any = np.array([1.5 * 2.0 ** (52 - digits)])
    exponents = _exponents(x)
    if exponents is not None:
        grid = np.ldexp(grid, exponents)
    np.add(x, grid[:, None], out=spare)
    multiples = np.add.reduce(spare.view(np.int64), axis=1)
    # These integers are modulo 2**64, and the true sum is less than half of that.
    multiples -= grid.view(np.int64) * classes
    spare -= grid[:, None]
    np.subtract(x, spare, out=spare)
    sums = multiples * 2.0**-digits
    rest = total(spare) if classes < FEW else np.einsum("ij->i", spare)
    return (sums if exponents is None else np.ldexp(sums, exponents)) + rest


def _exponents(x: Array) -> Array | None:
    """How much finer the grid of each row must be, because its largest number is small; None if no row needs it."""
    # Most often the first classes show it.
    largest = np.maximum.reduce(x[:, :256], axis=1)
    if np.minimum.reduce(largest) >= _SMALL:
        return None
    largest = np.maximum.reduce(x, axis=1)
    _, exponents = np.frexp(largest)
    # Not so fine that float64 has no more digits.
    return np.where(largest < _SMALL, np.maximum(exponents, -900), 0)
