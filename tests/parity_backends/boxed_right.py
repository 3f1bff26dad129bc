"""A backend for boxed arrays: functions of the NumPy backend between opening boxes and closing them, and the base's."""

import functools

import numpy as np
from boxed import Box

from seqloss.backends import base
from seqloss.backends import numpy as inner
from seqloss.core.protocol import Backend

# What the base has no answer for, and what it would read off the arrays.
OWN = {name for name in vars(Backend) if name[0] != "_"} - set(base.ANSWERS) | {"shape", "sizes", "scope"}


def within(x, change):
    """``change`` on what a list, a tuple or a named tuple holds."""
    if isinstance(x, (list, tuple)):
        held = [within(part, change) for part in x]
        return type(x)(*held) if hasattr(x, "_fields") else type(x)(held)
    return change(x)


def opened(x):
    return within(x, lambda part: part.array if isinstance(part, Box) else part)


def closed(x):
    return within(x, lambda part: Box(part) if isinstance(part, (np.ndarray, np.generic)) else part)


def boxed(function):
    @functools.wraps(function)
    def call(*arguments, **options):
        arguments = map(opened, arguments)
        return closed(function(*arguments, **{name: opened(value) for name, value in options.items()}))

    return call


globals().update({name: boxed(getattr(inner, name)) for name in OWN})


def owns(x):
    return isinstance(x, Box)


def to_numpy(x):
    return x.array


base.complete(__name__)
