"""What an invariant is asked of: a loss, and what else is known of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

Array = Any
Loss = Callable[[Array, Array, Array], Any]
Seed = int | np.random.Generator


class Batch(NamedTuple):
    """The arrays that a loss is asked with.

    Parameters
    ----------
    logits : array of shape [batch, time, classes]
        Floats.
    targets : array of shape [batch, time]
        Integers.
    weights : array of shape [batch, time]
        Floats.
    """

    logits: Array
    targets: Array
    weights: Array


class Answer(NamedTuple):
    """What a loss said.

    Parameters
    ----------
    value : array of float64
        Its value.
    dlogits : array of shape [batch, time, classes]
        Its gradient.
    value_dtype, gradient_dtype : str
        The names of the dtypes in which it said so.
    """

    value: Array
    dlogits: Array
    value_dtype: str = "float32"
    gradient_dtype: str = "float32"


class NotApplicable(Exception):
    """An invariant needs what the loss under test has not. The text says what."""


class InvariantViolation(AssertionError):
    """A loss breaks an invariant. The text names it and shows expected, got and the arrays."""

    what: str = ""
    expected: Any = None
    got: Any = None
    batch: Batch | None = None


@dataclass(frozen=True)
class Subject:
    """A loss under test with what a bare callable cannot tell; itself such a callable.

    Parameters
    ----------
    loss : callable
        ``loss(logits, targets, weights) -> (value, dlogits)`` in NumPy terms. It may return an :class:`Answer`, which
        has the dtypes that NumPy has not.
    upstream : callable, optional
        ``upstream(logits, targets, weights, cotangent) -> (losses, dlogits)``: the losses of the tokens times their
        weights, [batch, time], and the gradient of ``sum(cotangent * losses)``; if ``scalar``, the value of ``loss``
        and its gradient times a number.
    modes : mapping of str to callable
        The same loss, compiled: its other ways to run by name.
    second : callable, optional
        ``second(logits, targets, weights, direction)``: the Hessian of half the square of the value, times a direction
        of the shape of the logits. None or an exception is a refusal.
    cast : callable, optional
        ``cast(dtype) -> Subject``: the same loss of arrays of another dtype.
    dtypes : tuple of str
        The half-precision dtypes that ``cast`` knows.
    scalar : bool
        Whether ``upstream`` takes a number, because the loss is one.
    weights : {"any", "binary", "ones"}
        The weights that the loss can be asked with: any numbers, 0 and 1 alone, or none at all.
    ignore_label : int, optional
        The label that leaves a token out.
    quick : callable, optional
        The same loss, for the search of a smaller example: quicker where each shape is met once. What is found is asked
        of ``loss`` again.
    """

    loss: Loss
    upstream: Callable[[Array, Array, Array, Array], Any] | None = None
    modes: Mapping[str, Loss] = field(default_factory=dict)
    second: Callable[[Array, Array, Array, Array], Array] | None = None
    cast: Callable[[str], "Subject"] | None = None
    dtypes: tuple[str, ...] = ()
    scalar: bool = False
    weights: str = "any"
    ignore_label: int | None = None
    quick: Loss | None = None

    def __call__(self, logits: Array, targets: Array, weights: Array) -> Any:
        return self.loss(logits, targets, weights)
