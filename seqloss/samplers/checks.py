"""Checks of what the samplers are given."""

from numbers import Integral
from typing import Any, NamedTuple

from seqloss.core import dispatch, labels, options, shapes
from seqloss.core.argument import Argument
from seqloss.core.errors import ArgumentTypeError, OptionError
from seqloss.core.protocol import Array

LARGEST_RANGE = 2**53
"""Beyond, float64 no longer tells neighbouring ids apart."""


class TrueClasses(NamedTuple):
    """The true classes of a call, which have passed every check."""

    given: Argument
    ids: Array
    """Their values, as NumPy int64 of shape [batch, num_true]."""


def classes(value: Any) -> int:
    """The option range_max."""
    range_max = options.integer("range_max", value, 1)
    if range_max > LARGEST_RANGE:
        raise OptionError(f"range_max must be at most 2**53 = {LARGEST_RANGE}, got {value}; pass the number of classes")
    return range_max


def count(num_sampled: Any, unique: Any, name: Any) -> int:
    """The options of every sampler; returns the number of candidates."""
    number = options.integer("num_sampled", num_sampled, 1)
    options.flag("unique", unique)
    options.scope_name("name", name)
    return number


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
    columns = options.integer("num_true", num_true, 1)
    given = dispatch.argument("true_classes", value)
    shapes.true_classes(given.name, given.shape, columns)
    ids = labels.ids_to_draw(given)
    if range_max is not None:
        labels.in_range(given.name, ids, range_max, "every true class must be one that can be sampled")
    return TrueClasses(given, ids.astype("int64"))
