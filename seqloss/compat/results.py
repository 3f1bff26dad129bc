"""The common part of the old functions: results in the dtype of the logits, and weights that are required."""

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

from seqloss.compat import derived
from seqloss.core import dispatch
from seqloss.core.errors import ArgumentTypeError
from seqloss.core.protocol import Array

P = ParamSpec("P")


def like(name: str, value: Any, result: Array) -> Array:
    """A result in the dtype of an argument, half precision included."""
    argument = dispatch.argument(name, value)
    return argument.facts.astype(result, argument.dtype)


def in_dtype_of(argument: str, module: str) -> Callable[[Callable[P, Array]], Callable[P, Array]]:
    """What makes functions of ``module`` from others: the same, with the result in the dtype of an argument.

    The argument ``"logits[0]"`` is the first array of the list ``logits``.
    """
    name, is_list, _ = argument.partition("[0]")

    def make(original: Callable[P, Array]) -> Callable[P, Array]:
        position = list(inspect.signature(original).parameters).index(name)

        @derived.stand_in(original, module, f"with the result in the dtype of {name}.")
        def function(*args: P.args, **kwargs: P.kwargs) -> Array:
            result = original(*args, **kwargs)
            given: Any = kwargs[name] if name in kwargs else args[position]
            return like(argument, given[0] if is_list else given, result)

        return function

    return make


def required(weights: Any, function: str) -> None:
    if weights is None:
        raise ArgumentTypeError(f"weights is None, but {function} requires them; pass ones if every token counts")
