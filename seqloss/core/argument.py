"""One array of a call, with the facts that checks look at."""

from typing import Any, NamedTuple

from seqloss.core.protocol import Array, Backend
from seqloss.core.shapes import Shape


class Argument(NamedTuple):
    """One array of a call, in the framework it came in, with its facts."""

    name: str
    value: Array
    facts: Backend
    shape: Shape
    dtype: str
    is_host: bool = False
    """Whether it is a host value that still has to be placed beside the logits."""
    packed: tuple[Any, Any] | None = None
    """Of a ragged array, whose values this has: the offsets of its sequences, and what makes one of other values."""
    is_reshaped: bool = False
    """Whether ``shape`` is not that of ``value``."""

    def shaped(self, shape: Shape) -> "Argument":
        """The same argument, to be reshaped to this shape when it is placed: until then it is the caller's array."""
        return Argument(self.name, self.value, self.facts, shape, self.dtype, self.is_host, self.packed, True)

    def holding(self, value: Array) -> "Argument":
        """The same argument with another array.

        Spelt out, because old versions of torch.compile know no _replace (pytorch/pytorch#158772).
        """
        facts = self.facts, self.shape, self.dtype, self.is_host, self.packed, self.is_reshaped
        return Argument(self.name, value, *facts)
