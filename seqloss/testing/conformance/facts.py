"""Facts about arrays, and the way into the framework and out of it."""

from collections.abc import Iterator
from typing import get_args

import numpy as np

from seqloss.core.protocol import Array, Backend, Location
from seqloss.testing.conformance.comparing import BOOLS, FINITE, FLOATS, INTS, Check, different, half_dtypes


def _samples(backend: Backend) -> list[Array]:
    """Arrays of each kind, as far as the framework has their dtypes."""
    small = [FINITE.astype(dtype) for dtype in half_dtypes(backend)]
    return [FLOATS, BOOLS, INTS, *small, np.float32(2.5).reshape(()), np.zeros((0, 3), np.float32)]


def _owns(backend: Backend) -> Iterator[str]:
    array = backend.asarray(FLOATS)
    if backend.owns(array) is not True:
        yield f"is {backend.owns(array)!r} for what asarray returns, expected True"
    # NumPy's arrays belong to the backend whose own they are, and to no other.
    foreign = [1.0, [1.0, 2.0], None, "text", *([] if type(array) is np.ndarray else [FLOATS])]
    yield from (f"is true for a {type(x).__qualname__}" for x in foreign if backend.owns(x) is not False)


def _packed_form(backend: Backend) -> Iterator[str]:
    form = backend.packed_form(backend.asarray(FLOATS))
    if form is not None:
        yield f"of a dense array is {form!r}, expected None"


def _dense_form(backend: Backend) -> Iterator[str]:
    form = backend.dense_form(backend.asarray(FLOATS))
    if form is not None:
        yield f"is {form!r} for a dense array, expected None"


def _shape(backend: Backend) -> Iterator[str]:
    for x in _samples(backend):
        shape = backend.shape(backend.asarray(x))
        if not isinstance(shape, tuple) or shape != x.shape:
            yield f"is {shape!r}, expected {x.shape!r}"


def _dtype(backend: Backend) -> Iterator[str]:
    for x in _samples(backend):
        name = backend.dtype(backend.asarray(x))
        # A dtype object may be equal to its name.
        if not isinstance(name, str) or name != x.dtype.name:
            yield f"is {name!r}, expected {x.dtype.name!r}"


def _device(backend: Backend) -> Iterator[str]:
    one, other = (backend.asarray(x) for x in (FLOATS, INTS))
    if backend.device(one) != backend.device(other):
        yield f"differs for arrays that were placed alike: {backend.device(one)!r}, {backend.device(other)!r}"


def _location(backend: Backend) -> Iterator[str]:
    places = [place for place in get_args(Location) if place != "traced"]
    place = backend.location(backend.asarray(INTS))
    if place not in places:
        yield f"is {place!r} for an array that has values, expected one of {', '.join(places)}"


def _needs_grad(backend: Backend) -> Iterator[str]:
    answer = backend.needs_grad(backend.asarray(FLOATS))
    if not isinstance(answer, bool):
        yield f"is {answer!r}, expected a bool"


def _is_stopped(backend: Backend) -> Iterator[str]:
    answer = backend.is_stopped(backend.asarray(FLOATS))
    if not isinstance(answer, bool):
        yield f"is {answer!r}, expected a bool"


def _asarray(backend: Backend) -> Iterator[str]:
    like = backend.asarray(FLOATS)
    for x in _samples(backend):
        array = backend.asarray(x)
        kind = f"{x.dtype.name}{list(x.shape)}"
        yield from different(backend, f"of NumPy's {kind}", array, x)
        yield from different(backend, f"of NumPy's {kind} with like", backend.asarray(x, like=like), x)
        yield from different(backend, f"of the framework's own {kind}", backend.asarray(array), x)


def _to_numpy(backend: Backend) -> Iterator[str]:
    for x in _samples(backend):
        values = backend.to_numpy(backend.asarray(x))
        if not isinstance(values, (np.ndarray, np.generic)):
            yield f"is a {type(values).__qualname__}, not an array of NumPy"
        elif not np.array_equal(values, x, equal_nan=True):
            yield f"is {values.tolist()}, expected {x.tolist()}"


CHECKS: dict[str, Check] = {
    "owns": _owns,
    "dense_form": _dense_form,
    "packed_form": _packed_form,
    "shape": _shape,
    "dtype": _dtype,
    "device": _device,
    "location": _location,
    "needs_grad": _needs_grad,
    "is_stopped": _is_stopped,
    "asarray": _asarray,
    "to_numpy": _to_numpy,
}
