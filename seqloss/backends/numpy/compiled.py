"""The kernels in C, with the arguments and results of those in NumPy, which run where no library was built.

All that C reads and writes is checked or made here: dtypes, lengths, alignment, strides.
"""

import functools
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from seqloss.backends.numpy import library, threads
from seqloss.backends.numpy.numbers import BITS, FEW, FLOAT64, like, rows_of, zeros
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])

_DTYPES = {np.dtype("float32"): 0, FLOAT64: 1, BITS: 2, np.dtype("float16"): 3}

_SAVED = np.float64, np.float64, np.int64
"""Of what a forward keeps; the last with soft labels alone."""

_TILE = 256
"""As in ``call.h``."""

_WORTH_A_THREAD = 1 << 18
"""Logits for which another thread pays."""

_COPIED = 1 << 17
"""Logits that are copied at a time where the classes of a row are not next to each other."""

_MANY = 1 << 18
"""Logits from which on memory for a gradient comes from the system, which has zeros in it."""

_pack = struct.Struct("=8qd18q").pack
"""The record ``Call`` of ``call.h``."""


def in_c_where_built(on_numpy: _Kernel) -> _Kernel:
    """A kernel that is the one of its name in this module, where that is built and faster.

    A pullback goes where its forward went.
    """
    in_c = globals()["_" + on_numpy.__name__]
    is_pullback = on_numpy.__name__.endswith("_pullback")

    @functools.wraps(on_numpy)
    def kernel(*arguments: Any) -> Any:
        if is_pullback:
            (statistics,) = (x for x in arguments if isinstance(x, Statistics))
            runs = isinstance(statistics.saved, _Kept)
        else:
            runs = library.found().version is not None and _is_faster(arguments[0], arguments[-1])
        return (in_c if runs else on_numpy)(*arguments)

    return cast(_Kernel, kernel)


def _is_faster(logits: Array, spec: Spec) -> bool:
    """Not where rows are many and short, of which NumPy does many at a time, nor where its float32 tanh will do."""
    if spec.softcap is not None and spec.dtype == "float32":
        return False
    return logits.shape[-1] >= FEW or logits.size <= FEW * logits.shape[-1]


class _Kept(tuple[Array, ...]):
    """What a forward in C keeps for its pullback: highest logits, rests of sums, places of the highest."""


def _token_statistics(
    logits: Array, targets: Array, active: Array | None, prior: Array | None, spec: Spec
) -> Statistics:
    rows = _Rows(logits, active, prior, spec)
    labels = _flat(targets, np.int64, rows.count)
    return rows.statistics(targets.shape, labels)


def _token_pullback(
    cotangents: Cotangents,
    logits: Array,
    targets: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
) -> Array:
    rows = _Rows(logits, active, prior, spec)
    return rows.gradient(cotangents, _flat(targets, np.int64, rows.count), statistics)


def _label_statistics(
    logits: Array, labels: Array, active: Array | None, prior: Array | None, spec: Spec
) -> Statistics:
    rows = _Rows(logits, active, prior, spec, labels)
    return rows.statistics(logits.shape[:-1], None)


def _label_pullback(
    cotangents: Cotangents,
    logits: Array,
    labels: Array,
    mass: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
    wrt_labels: bool,
) -> tuple[Array, Array | None]:
    rows = _Rows(logits, active, prior, spec, labels)
    to_labels = rows.empty(rows.labels) if wrt_labels else None
    mass = _flat(mass, spec.dtype, rows.count)
    to_logits = rows.gradient(cotangents, None, statistics, mass, to_labels)
    return to_logits, None if to_labels is None else like(to_labels, labels)


class _Rows:
    """Rows of logits, and what all kernels read beside them."""

    def __init__(
        self, logits: Array, active: Array | None, prior: Array | None, spec: Spec, labels: Array | None = None
    ) -> None:
        self._logits, self._spec = logits, spec
        self.z = rows_of(logits)
        self.count, self.classes = self.z.shape
        self.labels = None if labels is None else rows_of(labels)
        if self.labels is not None and self.labels.shape != self.z.shape:
            raise ValueError(f"labels of shape {self.labels.shape} for logits of shape {self.z.shape}")
        # Capped logits too: a tanh of float32 would cost the digits that the loss is to keep.
        is_double = FLOAT64 in [x.dtype for x in (self.z, self.labels) if x is not None]
        self._is_wide = spec.dtype == "float64" or spec.softcap is not None or is_double
        self._active = None if active is None else _flat(active, np.bool_, self.count)
        self._prior = self._filled(1 if prior is None else prior) if spec.unl else None
        self._is_clean = self.z.size >= _MANY

    def _filled(self, prior: Any) -> Array:
        """The prior, with zeros up to the end of the last tile."""
        filled = np.zeros(-(-self.classes // _TILE) * _TILE, "float64" if self._is_wide else "float32")
        filled[: self.classes] = prior
        return filled

    def empty(self, x: Array) -> Array:
        """Room for a gradient."""
        return zeros(x.shape, x.dtype) if self._is_clean else np.empty(x.shape, x.dtype)

    def statistics(self, shape: tuple[int, ...], targets: Array | None) -> Statistics:
        _, has_lse, has_unl, _ = self._spec
        found = np.empty((1 + has_lse + 2 * has_unl, self.count), self._spec.dtype)
        rooms = iter(found)
        named = [next(rooms) if is_asked else None for is_asked in (True, has_lse, has_unl, has_unl)]
        kept = _SAVED if self.labels is not None else _SAVED[:2]
        saved = [np.empty(self.count, dtype) for dtype in kept]
        self._run(library.found().forward, targets, saved, (*map(_address, named), 0, 0), (0, 0))
        nll, lse, unl, mass = (None if x is None else x.reshape(shape) for x in named)
        return Statistics(nll, lse, unl, mass, _Kept(saved))

    def gradient(
        self,
        cotangents: Cotangents,
        targets: Array | None,
        statistics: Statistics,
        mass: Array | None = None,
        to_labels: Array | None = None,
    ) -> Array:
        """That of the logits; that of the labels is written, if there is room for it."""
        dtype, count = self._spec.dtype, self.count
        upstream = [None if x is None else _flat(x, dtype, count) for x in (*cotangents, statistics.mass)]
        to_logits = self.empty(self.z)
        first = (*map(_address, (*upstream, to_logits)), self._is_clean)
        saved = [_flat(x, dtype, count) for x, dtype in zip(statistics.saved, _SAVED, strict=False)]
        self._run(library.found().pullback, targets, saved, first, (_address(mass), _address(to_labels)))
        return like(to_logits, self._logits)

    def _run(
        self,
        function: Any,
        targets: Array | None,
        saved: Sequence[Array],
        more: tuple[int, ...],
        of_labels: tuple[int, int],
    ) -> None:
        """Call a function of the library with the rows, in pieces and threads. What it gets stands in ``call.h``."""
        z, y, spec = self.z, self.labels, self._spec
        if not z.size:
            return
        is_exact = z.dtype != FLOAT64 and spec.dtype == "float64"
        facts = _DTYPES[z.dtype], self._is_wide, is_exact, spec.dtype == "float64", spec.softcap or 0.0
        highest, rest, *places = map(_address, saved)
        beside = (*map(_address, (targets, self._active, self._prior)), highest, rest, *more)
        last = (_DTYPES[y.dtype], *places, *of_labels) if y is not None else (0, 0, 0, 0)
        can_stay = _has_whole_rows(z) and (y is None or _has_whole_rows(y))

        def pieces(mine: Iterator[slice]) -> None:
            for rows in mine:
                logits, stride, _z = _placed(z, rows, can_stay)
                labels, labels_stride, _y = _placed(y, rows, can_stay)
                first = rows.start, rows.stop, self.classes, stride
                function(_pack(*first, *facts, logits, *beside, labels, labels_stride, *last))

        if can_stay and z.size < 2 * _WORTH_A_THREAD:
            pieces(iter((slice(0, self.count),)))
            return
        workers = min(threads.allowed(), max(1, z.size // _WORTH_A_THREAD))
        # Some for each thread, so that one that is held up holds up nobody.
        size = -(-self.count // (4 * workers)) if can_stay else max(1, _COPIED // self.classes)
        starts = range(0, self.count, size)
        threads.share(pieces, [slice(i, min(i + size, self.count)) for i in starts], workers)


def _has_whole_rows(x: Array) -> bool:
    """Whether the classes of a row are next to each other, each where a processor wants it."""
    return x.flags.aligned and (x.shape[1] == 1 or x.strides[1] == x.itemsize)


def _placed(x: Array | None, rows: slice, can_stay: bool) -> tuple[int, int, Array | None]:
    """The address of row 0, the stride, and what has to live as long as those; rows that cannot stay are copied."""
    if x is None:
        return 0, 0, None
    if can_stay:
        return _address(x), x.strides[0], x
    copied = np.array(x[rows], order="C")
    # As if the piece were where it belongs.
    return _address(copied) - rows.start * copied.strides[0], copied.strides[0], copied


def _flat(x: Array, dtype: Any, count: int) -> Array:
    """One number for each row, next to each other."""
    x = np.ascontiguousarray(x, dtype).reshape(-1)
    if len(x) != count:
        raise ValueError(f"{len(x)} numbers for {count} rows")
    return x if x.flags.aligned else x.copy()


def _address(x: Array | None) -> int:
    return 0 if x is None else x.__array_interface__["data"][0]
