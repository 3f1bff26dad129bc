"""What the old functions have in common: results in the dtype of the logits, and weights that must be given."""

from typing import Any

from seqloss.core import dispatch
from seqloss.core.errors import ArgumentTypeError
from seqloss.core.protocol import Array


def like(name: str, value: Any, result: Array) -> Array:
    """A result in the dtype of an argument, half precision included."""
    argument = dispatch.argument(name, value)
    return argument.facts.astype(result, argument.dtype)


def required(weights: Any, function: str) -> None:
    if weights is None:
        raise ArgumentTypeError(f"weights is None, but {function} requires them; pass ones if every token counts")
