"""The kernels in C, with the arguments and results of those in NumPy, which run where no library was built.

All that C reads and writes is checked or made here: dtypes, lengths, alignment, strides.
"""

import functools
import struct
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numpy as np

from seqloss.backends.numpy import library, threads
from seqloss.backends.numpy.numbers import BITS, FLOAT64, like, rows_of, zeros
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])

_DTYPES = {np.dtype("float32"): 0, FLOAT64: 1, BITS: 2, np.dtype("float16"): 3}

_TILE = 256
"""As in ``call.h``."""

_WORTH_A_THREAD = 1 << 18
"""Logits for which another thread pays."""

_COPIED = 1 << 17
"""Logits that are copied at a time where the classes of a row are not next to each other."""

_SMALL = 1 << 20
"""Bytes of a gradient up to which it is not zero from the start."""

_pack = struct.Struct("=8qd12q").pack
"""The record ``Call`` of ``call.h``."""


def compiled(on_numpy: _Kernel) -> _Kernel:
    """A kernel that is the one of its name in this module, if the library is there."""
    in_c = globals()["_" + on_numpy.__name__]

    @functools.wraps(on_numpy)
    def kernel(*arguments: Any) -> Any:
        return on_numpy(*arguments) if library.found().version is None else in_c(*arguments)

    return cast(_Kernel, kernel)


def _token_statistics(
    logits: Array, targets: Array, active: Array | None, prior: Array | None, spec: Spec
) -> Statistics:
    z = rows_of(logits)
    count, shape = len(z), targets.shape
    rows = _Rows(z, targets, active, prior, spec)
    saved = np.empty((2, count))
    found = np.empty((1 + spec.lse + 2 * spec.unl, count), spec.dtype)
    start, step = _address(found), found.strides[0]
    nll, lse, unl, mass = start, start + step if spec.lse else 0, 0, 0
    if spec.unl:
        unl, mass = start + (1 + spec.lse) * step, start + (2 + spec.lse) * step
    rows.run(library.found().forward, _address(saved), (nll, lse, unl, mass, 0, 0))
    rest = iter(found)
    named = [next(rest).reshape(shape) if is_there else None for is_there in (True, spec.lse, spec.unl, spec.unl)]
    return Statistics(*named, (saved,))


def _token_pullback(
    cotangents: Cotangents,
    logits: Array,
    targets: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
) -> Array:
    z = rows_of(logits)
    upstream = [None if x is None else _flat(x, spec.dtype, len(z)) for x in cotangents]
    if all(x is None for x in upstream):
        return np.zeros_like(logits)
    mass = None if statistics.mass is None else _flat(statistics.mass, spec.dtype, len(z))
    rows = _Rows(z, targets, active, prior, spec)
    is_clean = z.nbytes >= _SMALL
    gradient = zeros(z.shape, z.dtype) if is_clean else np.empty(z.shape, z.dtype)
    (saved,) = statistics.saved
    addresses = (*(_address(x) for x in (*upstream, mass)), _address(gradient), is_clean)
    rows.run(library.found().pullback, _address(saved), addresses)
    return like(gradient, logits)


class _Rows:
    """What both kernels read."""

    def __init__(self, z: Array, targets: Array, active: Array | None, prior: Array | None, spec: Spec) -> None:
        self._z = z
        self._is_wide = spec.dtype == "float64" or spec.softcap is not None
        self._spec = spec
        count = len(z)
        self._targets = _flat(targets, np.int64, count)
        self._active = None if active is None else _flat(active, np.bool_, count)
        self._prior = None if prior is None else self._filled(prior)

    def _filled(self, prior: Array) -> Array:
        """The prior, with zeros up to the end of the last tile."""
        classes = self._z.shape[1]
        filled = np.zeros(-(-classes // _TILE) * _TILE, "float64" if self._is_wide else "float32")
        filled[:classes] = prior
        return filled

    def run(self, function: Any, saved: int, more: tuple[int, ...]) -> None:
        """Call the function with the rows, in pieces and threads; ``more`` are the last numbers of the record."""
        z, spec = self._z, self._spec
        count, classes = z.shape
        if not z.size:
            return
        is_exact = z.dtype != FLOAT64 and spec.dtype == "float64"
        facts = _DTYPES[z.dtype], self._is_wide, is_exact, spec.dtype == "float64", spec.softcap or 0.0
        beside = (*map(_address, (self._targets, self._active, self._prior)), saved, saved + 8 * count, *more)
        can_stay = (classes == 1 or z.strides[1] == z.itemsize) and z.flags.aligned
        if can_stay and z.size < 2 * _WORTH_A_THREAD:
            function(_pack(0, count, classes, z.strides[0], *facts, _address(z), *beside))
            return

        def pieces(mine: Iterator[slice]) -> None:
            for rows in mine:
                own = z[rows] if can_stay else np.array(z[rows], order="C")
                stride = own.strides[0]
                # As if the piece were where it belongs.
                first = _address(own) - rows.start * stride
                function(_pack(rows.start, rows.stop, classes, stride, *facts, first, *beside))

        workers = min(threads.allowed(), max(1, z.size // _WORTH_A_THREAD))
        # Some for each thread, so that one that is held up holds up nobody.
        size = -(-count // (4 * workers)) if can_stay else max(1, _COPIED // classes)
        threads.share(pieces, [slice(i, min(i + size, count)) for i in range(0, count, size)], workers)


def _flat(x: Array, dtype: Any, count: int) -> Array:
    """One number for each row, next to each other."""
    x = np.ascontiguousarray(x, dtype).reshape(-1)
    if len(x) != count:
        raise ValueError(f"{len(x)} numbers for {count} rows")
    return x if x.flags.aligned else x.copy()


def _address(x: Array | None) -> int:
    return 0 if x is None else x.__array_interface__["data"][0]
