"""A framework in one class, to have something to write a backend for: each array is held in a box."""

import operator

import numpy as np


class Box:
    """An array with the operators that every framework has."""

    def __init__(self, held):
        self.held = np.asarray(held)

    def __repr__(self):
        return f"Box({self.held.tolist()})"


def _on_boxes(function):
    def method(*operands):
        return Box(function(*(x.held if isinstance(x, Box) else x for x in operands)))

    return method


for _name in ("abs", "invert", "add", "sub", "mul", "truediv", "and_", "or_", "eq", "lt"):
    setattr(Box, f"__{_name.strip('_')}__", _on_boxes(getattr(operator, _name)))
