"""Checks of what the samplers are given."""

from numbers import Integral
from typing import Any, NamedTuple

from seqloss.core import dispatch, dtypes
from seqloss.core import options as options_of_calls
from seqloss.core.errors import (
    ArgumentTypeError,
    DTypeError,
    LabelError,
    OptionError,
    ShapeError,
    UnreadableError,
)
from seqloss.core.hints import shown
from seqloss.core.protocol import Argument, Array
from seqloss.core.shapes import text

LARGEST_RANGE = 2**53
"""Beyond, float64 no longer tells neighbouring ids apart."""


class TrueClasses(NamedTuple):
    """The true classes of a call, which have passed every check."""

    given: Argument
    ids: Array
    """Their values, as NumPy int64 of shape [batch, num_true]."""


def integer(name: str, value: Any, least: int) -> int:
    """An option that must be a whole number, as a Python integer."""
    if options_of_calls.is_array(value):
        raise ArgumentTypeError(f"{name} must be an integer, got an array; {options_of_calls.no_array('int')}")
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ArgumentTypeError(f"{name} must be an integer, got {shown(value)}; convert it with int(...)")
    if value < least:
        raise OptionError(f"{name} must be at least {least}, got {shown(int(value))}")
    return int(value)


def classes(value: Any) -> int:
    """The option range_max."""
    range_max = integer("range_max", value, 1)
    if range_max > LARGEST_RANGE:
        raise OptionError(f"range_max must be at most 2**53 = {LARGEST_RANGE}, got {value}; pass the number of classes")
    return range_max


def options(num_sampled: Any, unique: Any, name: Any) -> int:
    """The options of every sampler; returns the number of candidates."""
    count = integer("num_sampled", num_sampled, 1)
    options_of_calls.flag("unique", unique)
    scope(name)
    return count


def scope(name: Any) -> None:
    if name is not None and not isinstance(name, str):
        raise ArgumentTypeError(f"name must be a string or None, got {shown(name)}")


def generator(seed: Any) -> Any:
    """The NumPy generator that a seed stands for."""
    import numpy as np

    if seed is None or isinstance(seed, np.random.Generator):
        return np.random.default_rng(seed)
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise ArgumentTypeError(
            f"seed must be None, an integer or a numpy.random.Generator, got {seed!r}; "
            "make a generator with numpy.random.default_rng(...)"
        )
    if seed < 0:
        raise OptionError(f"seed must not be negative, got {seed}; pass one of at least 0, or None")
    return np.random.default_rng(int(seed))


def true_classes(value: Any, num_true: Any, range_max: int | None) -> TrueClasses:
    """Check and read the true classes; ``range_max`` None leaves their values free."""
    columns = integer("num_true", num_true, 1)
    given = dispatch.argument("true_classes", value)
    shape = given.shape
    if shape is not None and len(shape) != 2:
        mend = "; add the axis of the true classes, as in true_classes[:, None]" if len(shape) == 1 else ""
        raise ShapeError(f"true_classes must be a matrix [batch, num_true], got {text(shape)}{mend}")
    if shape is not None and shape[1] not in (None, columns):
        raise ShapeError(
            f"true_classes must have num_true = {columns} columns, got {text(shape)}; pass num_true={shape[1]}"
        )
    ids = read(given)
    if range_max is not None:
        _in_range(ids, range_max)
    return TrueClasses(given, ids.astype("int64"))


def read(given: Argument) -> Array:
    """The values of an argument that must hold integers, as a NumPy array."""
    if given.dtype not in dtypes.INTEGERS:
        raise DTypeError(f"{given.name} must be integer class ids, got {given.dtype}; cast them to int64")
    # Candidates are drawn on the host, so there is no way around waiting for the device.
    if not given.facts.readable(given.value, sync=True):
        raise UnreadableError(
            f"{given.name} have no values yet (traced, batched, or without storage), but candidates are drawn on the "
            "host; draw them outside of the compiled function and pass sampled_values to it"
        )
    return given.facts.to_numpy(given.value)


def _in_range(ids: Array, range_max: int) -> None:
    import numpy as np

    found = np.argwhere((ids < 0) | (ids >= range_max))
    if len(found) == 0:
        return
    row, column = (int(i) for i in found[0])
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise LabelError(
        f"true_classes[{row}, {column}] is {ids[row, column]}, outside [0, {range_max}){more}; "
        "every true class must be one that can be sampled"
    )
