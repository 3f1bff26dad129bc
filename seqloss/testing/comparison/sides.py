"""The two sides of a comparison: arrays of any framework as NumPy arrays, with the facts for the report."""

from typing import Any, NamedTuple

import numpy as np

from seqloss.core import dispatch, labels
from seqloss.core.dtypes import FLOATS, INTEGERS
from seqloss.core.errors import DTypeError, UnreadableError
from seqloss.testing import frameworks
from seqloss.testing.comparison.result import Side

Array = Any

PYTHON = "python"
"""The framework of numbers and lists, which have no dtype of their own: they go with every one that can hold them."""

_WIDE = np.dtype(np.longdouble).name


class Read(NamedTuple):
    """An array that was read: its values (bfloat16 as float32) and the facts about it."""

    values: Array
    side: Side

    @property
    def dtype(self) -> str:
        """The name of its dtype; of numbers of Python that which NumPy gives them."""
        return self.values.dtype.name if self.side.framework == PYTHON else self.side.dtype


def read(name: str, value: Any) -> Read:
    """The values of an array of any framework, or of Python numbers."""
    argument = dispatch.argument(name, value)
    facts, array, dtype = argument.facts, argument.value, argument.dtype
    if dtype not in (*FLOATS, *INTEGERS, "bool", _WIDE):
        raise DTypeError(f"{name} must be a float, integer or bool array, got {dtype}; cast it first")
    if not labels.is_readable(argument, sync=True):
        raise UnreadableError(
            f"{name} has no values to read (it is traced, batched, or spread over processes); "
            "return it from the compiled function and compare it outside"
        )
    values = np.asarray(facts.to_numpy(facts.astype(array, "float32") if dtype == "bfloat16" else array))
    kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__qualname__}".removeprefix("builtins.")
    if isinstance(value, (bool, int, float, list, tuple)) and not isinstance(value, np.generic):
        return Read(values, Side(PYTHON, kind, values.shape, _name_in_python(values), None))
    framework, _ = dispatch.backend_of(value) or (PYTHON, None)
    return Read(values, Side(framework, kind, values.shape, dtype, _device(framework, array)))


def _device(framework: str, array: Any) -> str | None:
    return str(frameworks.load(framework).device(array)) if framework in frameworks.NAMES else None


def _name_in_python(values: Array) -> str:
    return {"b": "bool", "f": "float"}.get(values.dtype.kind, "int")
