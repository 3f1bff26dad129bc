"""The kernels in C, with the arguments and results of those in NumPy, which run where no library was built."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from seqloss.backends.numpy import library
from seqloss.backends.numpy.calls import INT64, Found, Rows, flat
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])


def in_c_where_built(on_numpy: _Kernel) -> _Kernel:
    """A kernel that is the one of its name in this module, where that is built.

    A pullback goes where its forward went.
    """
    in_c = globals()["_" + on_numpy.__name__]
    parameters = on_numpy.__code__.co_varnames[: on_numpy.__code__.co_argcount]

    @functools.wraps(on_numpy)
    def forward(*arguments: Any) -> Any:
        return (on_numpy if library.found().version is None else in_c)(*arguments)

    if "statistics" not in parameters:
        return cast(_Kernel, forward)
    place = parameters.index("statistics")

    @functools.wraps(on_numpy)
    def pullback(*arguments: Any) -> Any:
        # The forward tells: C keeps one array, NumPy several.
        return (in_c if len(arguments[place].saved) == 1 else on_numpy)(*arguments)

    return cast(_Kernel, pullback)


def _token_statistics(
    logits: Array, targets: Array, active: Array | None, prior: Array | None, spec: Spec
) -> Statistics:
    rows = Rows(logits, active, prior, spec)
    found = Found.room(targets.shape, 2, spec)
    rows.run(library.found().forward, flat(targets, INT64, rows.count), found)
    return found.statistics


def _token_pullback(
    cotangents: Cotangents,
    logits: Array,
    targets: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
) -> Array:
    rows = Rows(logits, active, prior, spec)
    gradient = rows.gradient()
    back = rows.back(cotangents, None, gradient)
    rows.run(library.found().pullback, flat(targets, INT64, rows.count), rows.found(statistics), back)
    return gradient


def _token_statistics_and_pullback(
    cotangents: Cotangents,
    logits: Array,
    targets: Array,
    active: Array | None,
    prior: Array | None,
    spec: Spec,
    lse_square: Array | None = None,
    into: Array | None = None,
) -> tuple[Statistics, Array]:
    rows, c = Rows(logits, active, prior, spec), library.found()
    gradient, found = rows.gradient(into), Found.room(targets.shape, 2, spec)
    back = rows.back(cotangents, lse_square, gradient)
    rows.run(c.both, flat(targets, INT64, rows.count), found, back, room=c.room(rows.classes))
    return found.statistics, gradient


def _label_statistics(
    logits: Array, labels: Array, active: Array | None, prior: Array | None, spec: Spec
) -> Statistics:
    rows = Rows(logits, active, prior, spec, labels)
    found = Found.room(logits.shape[:-1], 3, spec)
    rows.run(library.found().forward, None, found)
    return found.statistics


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
    rows = Rows(logits, active, prior, spec, labels)
    to_logits, to_labels = rows.gradient(), rows.room(labels) if wrt_labels else None
    mass, back = flat(mass, rows.dtype, rows.count), rows.back(cotangents, None, to_logits)
    rows.run(library.found().pullback, None, rows.found(statistics), back, mass, to_labels)
    return to_logits, to_labels
