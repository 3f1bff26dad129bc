"""Calls of the C kernels. All that C reads and writes is checked or made here: dtypes, lengths, alignment, strides."""

import ctypes
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from seqloss.backends.numpy import library, threads
from seqloss.backends.numpy.numbers import BITS, FLOAT64, rows_of, zeros
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array

INT64 = np.dtype("int64")
_FLOAT32, _BOOL = np.dtype("float32"), np.dtype("bool")
_OF_TOKENS = {"float32": _FLOAT32, "float64": FLOAT64}
_NUMBERS = {_FLOAT32: 0, FLOAT64: 1, BITS: 2, np.dtype("float16"): 3}
"""Of dtypes, as in ``call.h``."""

_WORTH_A_THREAD = 1 << 18
"""Logits for which another thread pays."""

_COPIED = 1 << 17
"""The number of logits that are copied at a time if the classes of a row are not adjacent."""

_MANY = 1 << 18
"""From this many logits on, memory for a gradient comes from the system, and holds zeros."""

_pack = struct.Struct("=8qd23q").pack
"""The record ``Call`` of ``call.h``."""


class Found(NamedTuple):
    """The numbers of tokens that a forward writes and a pullback reads."""

    saved: Array
    """Float64 [2 or 3, tokens]: for each token the highest logit, the rest of the sum, and with soft labels the bits of
    the place of the highest logit."""
    nll: Array | None
    lse: Array | None
    unl: Array | None
    mass: Array | None

    @classmethod
    def room(cls, shape: tuple[int, ...], saved: int, spec: Spec) -> "Found":
        dtype, has_lse, has_unl, _ = spec
        lse = np.empty(shape, dtype) if has_lse else None
        unl, mass = (np.empty(shape, dtype), np.empty(shape, dtype)) if has_unl else (None, None)
        return cls(np.empty((saved, *shape), FLOAT64), np.empty(shape, dtype), lse, unl, mass)

    @property
    def statistics(self) -> Statistics:
        saved, nll, lse, unl, mass = self
        return Statistics(nll, lse, unl, mass, (saved,))

    def addresses(self, count: int) -> tuple[int, ...]:
        """In the order of ``call.h``, and that of the places."""
        saved, nll, lse, unl, mass = self
        highest = _address(saved)
        named = _address(nll), _address(lse), _address(unl), _address(mass)
        return highest, highest + 8 * count, *named, highest + 16 * count


class Back(NamedTuple):
    """What a pullback reads and writes, as addresses in the order of ``call.h``; and the arrays, to keep them alive."""

    addresses: tuple[int, ...] = (0,) * 6
    arrays: tuple[Array | None, ...] = ()


_NOTHING_BACK = Back()


class Rows:
    """Rows of logits, and what all kernels read beside them."""

    def __init__(
        self, logits: Array, active: Array | None, prior: Array | None, spec: Spec, labels: Array | None = None
    ) -> None:
        self._logits, self._spec, self.dtype = logits, spec, _OF_TOKENS[spec.dtype]
        self._z = z = rows_of(logits)
        self.count, self.classes = z.shape
        self._labels = y = None if labels is None else rows_of(labels)
        if y is not None and y.shape != z.shape:
            raise ValueError(f"labels of shape {y.shape} for logits of shape {z.shape}")
        self._is_wide = FLOAT64 in (self.dtype, z.dtype) or (y is not None and y.dtype == FLOAT64)
        self._active = None if active is None else flat(active, _BOOL, self.count)
        self._prior = self._filled(1 if prior is None else prior) if spec.unl else None
        self._is_clean = z.size >= _MANY

    def _filled(self, prior: Any) -> Array:
        """The prior, with zeros up to the end of the last tile."""
        tile = library.found().tile
        filled = np.zeros(-(-self.classes // tile) * tile, FLOAT64 if self._is_wide else _FLOAT32)
        filled[: self.classes] = prior
        return filled

    def gradient(self, into: Array | None = None) -> Array:
        """Room for the gradient of the logits: new, or an array without gaps."""
        if into is None or not into.flags.carray:
            return self.room(self._logits)
        self._is_clean = False
        return into

    def room(self, x: Array) -> Array:
        """Room for a gradient."""
        return zeros(x.shape, x.dtype) if self._is_clean else np.empty(x.shape, x.dtype)

    def found(self, statistics: Statistics) -> Found:
        """What a pullback reads of the statistics."""
        mass = None if statistics.mass is None else flat(statistics.mass, self.dtype, self.count)
        kept = 2 if self._labels is None else 3
        saved = flat(statistics.saved[0], FLOAT64, kept * self.count)
        return Found(saved, None, None, None, mass)

    def back(self, cotangents: Cotangents, lse_square: Array | None, gradient: Array) -> Back:
        upstream = [None if x is None else flat(x, self.dtype, self.count) for x in (*cotangents, lse_square)]
        arrays = (*upstream, gradient)
        return Back((*[_address(x) for x in arrays], self._is_clean), arrays)

    def run(
        self,
        function: Any,
        targets: Array | None,
        found: Found,
        back: Back = _NOTHING_BACK,
        mass: Array | None = None,
        to_labels: Array | None = None,
        room: int = 0,
    ) -> None:
        """Call a function of the library with the rows, in pieces and threads.

        Its arguments are described in ``call.h``.
        """
        z, y, count, classes = self._z, self._labels, self.count, self.classes
        if not z.size:
            return
        is_double = self.dtype == FLOAT64
        is_exact = is_double and z.dtype != FLOAT64
        facts = _NUMBERS[z.dtype], self._is_wide, is_exact, is_double, self._spec.softcap or 0.0
        *statistics, places = found.addresses(count)
        beside = _address(targets), _address(self._active), _address(self._prior), *statistics, *back.addresses
        last = (0, 0, 0, 0) if y is None else (_NUMBERS[y.dtype], places, _address(mass), _address(to_labels))
        can_stay = _has_whole_rows(z) and (y is None or _has_whole_rows(y))

        def call(first: int, stop: int, logits: int, stride: int, labels: int, labels_stride: int, own: int) -> None:
            rows = first, stop, classes, stride
            function(_pack(*rows, *facts, logits, *beside, own, labels, labels_stride, *last))

        if can_stay and z.size < 2 * _WORTH_A_THREAD:
            own = np.empty(room, np.uint8) if room else None
            call(0, count, *_place(z), *_place(y), _address(own))
            return

        def pieces(mine: Iterator[slice]) -> None:
            own = np.empty(room, np.uint8) if room else None
            for rows in mine:
                logits = z if can_stay else _copied(z, rows)
                labels = y if can_stay else _copied(y, rows)
                first = 0 if can_stay else rows.start
                call(rows.start, rows.stop, *_place(logits, first), *_place(labels, first), _address(own))

        workers = min(threads.allowed(), max(1, z.size // _WORTH_A_THREAD))
        # Several for each thread, so that a thread that is delayed does not delay the others.
        size = -(-count // (4 * workers)) if can_stay else max(1, _COPIED // classes)
        threads.share(pieces, [slice(i, min(i + size, count)) for i in range(0, count, size)], workers)


def _has_whole_rows(x: Array) -> bool:
    """Whether the classes of a row are next to each other, each where a processor wants it."""
    return x.flags.aligned and (x.shape[1] == 1 or x.strides[1] == x.itemsize)


def _copied(x: Array | None, rows: slice) -> Array | None:
    return None if x is None else np.array(x[rows], order="C")


def _place(x: Array | None, first: int = 0) -> tuple[int, int]:
    """The address of row 0 and the stride, where ``x`` begins with row ``first``."""
    return (0, 0) if x is None else (_address(x) - first * x.strides[0], x.strides[0])


def flat(x: Array, dtype: Any, count: int) -> Array:
    """One number for each row, next to each other."""
    if x.size != count:
        raise ValueError(f"{x.size} numbers for {count} rows")
    if type(x) is np.ndarray and x.dtype == dtype and x.flags.carray:
        return x
    x = np.ascontiguousarray(x, dtype)
    return x if x.flags.aligned else x.copy()


def _address(x: Array | None) -> int:
    if x is None:
        return 0
    try:  # This takes a fifth of the time of the array interface, but not every array.
        return ctypes.addressof(ctypes.c_char.from_buffer(x))
    except (TypeError, ValueError, BufferError):
        return int(x.__array_interface__["data"][0])
