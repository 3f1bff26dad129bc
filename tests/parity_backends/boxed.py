"""A framework of one class: NumPy arrays in a box, which no other backend owns."""

import operator

__version__ = "1.2.3"


class Box:
    device = "shelf"

    def __init__(self, array):
        self.array = array

    @property
    def dtype(self):
        return self.array.dtype

    def __getitem__(self, places):
        return Box(self.array[places])

    __hash__ = None


def _binary(function, swapped=False):
    def method(self, other):
        other = other.array if isinstance(other, Box) else other
        return Box(function(other, self.array) if swapped else function(self.array, other))

    return method


def _unary(function):
    return lambda self: Box(function(self.array))


for _name in ("add", "sub", "mul", "truediv", "matmul", "and", "or"):
    _function = getattr(operator, f"__{_name}__")
    setattr(Box, f"__{_name}__", _binary(_function))
    setattr(Box, f"__r{_name}__", _binary(_function, swapped=True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Box, f"__{_name}__", _binary(getattr(operator, f"__{_name}__")))
for _name in ("abs", "neg", "invert"):
    setattr(Box, f"__{_name}__", _unary(getattr(operator, f"__{_name}__")))
