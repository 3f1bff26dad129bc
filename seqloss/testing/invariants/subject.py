"""What an invariant is asked of: a loss, and what else is known of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from seqloss.testing.oracle_objectives import Objective

Array = Any
Loss = Callable[[Array, Array, Array], Any]
Seed = int | np.random.Generator

PLAIN = Objective()
"""The cross entropy alone."""


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


class Layer(NamedTuple):
    """The arrays that a loss is asked with which makes the logits itself, ``hidden @ kernel + bias``.

    Parameters
    ----------
    hidden : array of shape [batch, time, features]
        Floats.
    kernel : array of shape [features, classes]
        Floats.
    bias : array of shape [classes] or None
        Floats, where the loss takes them.
    targets : array of shape [batch, time]
        Integers.
    weights : array of shape [batch, time]
        Floats.
    """

    hidden: Array
    kernel: Array
    bias: Array | None
    targets: Array
    weights: Array


class LayerAnswer(NamedTuple):
    """What such a loss said: its value, and the gradients of hidden, kernel and bias.

    Parameters
    ----------
    value : array of float64
        Its value.
    hidden, kernel, bias : array
        The gradients, of the shapes of the arrays.
    value_dtype, gradient_dtype : str
        The names of the dtypes of the value and of the gradient of the kernel.
    """

    value: Array
    hidden: Array
    kernel: Array
    bias: Array | None
    value_dtype: str = "float32"
    gradient_dtype: str = "float32"


@dataclass(frozen=True)
class Linear:
    """What a loss has beside it that makes the logits itself.

    Parameters
    ----------
    ask : callable
        ``ask(layer) -> LayerAnswer``.
    upstream : callable, optional
        ``upstream(layer, cotangent) -> LayerAnswer``, as that of a :class:`Subject`.
    tied : callable, optional
        ``tied(x, targets, weights) -> gradient``, where x [classes, classes] is a sequence of hidden rows and the
        kernel; of a loss that takes its kernel turned the other way round, ``turned``, its transpose is the kernel.
    has_bias, turned : bool
        Whether it takes a bias, and takes [classes, features].
    """

    ask: Callable[[Layer], LayerAnswer]
    upstream: Callable[[Layer, Array], LayerAnswer] | None = None
    tied: Callable[[Array, Array, Array], Array] | None = None
    has_bias: bool = False
    turned: bool = False


class NotApplicable(Exception):
    """An invariant needs what the loss under test has not. The text says what."""


class InvariantViolation(AssertionError):
    """A loss breaks an invariant. The text names it and shows expected, got and the arrays.

    ``kind`` is "numbers", where the loss is wrong; "refusal", where it answers what it should have refused; or
    "digits", where nothing but digits are lost that the float dtype has.
    """

    what: str = ""
    expected: Any = None
    got: Any = None
    batch: Batch | Layer | None = None
    kind: str = "numbers"


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
    modes, layouts, surroundings : mapping of str to callable
        The same loss by name of how else it can be asked: compiled; of arrays that are laid out otherwise in memory;
        where a program has set something that is none of its business.
    unrecorded : mapping of str to callable
        Ways to get its value alone, ``unrecorded[name](logits, targets, weights) -> value``, where no gradient is
        recorded.
    second : callable, optional
        ``second(logits, targets, weights, direction)``: the Hessian of half the square of the value, times a direction
        of the shape of the logits. None or an exception is a refusal.
    dweights : callable, optional
        ``dweights(logits, targets, weights)``: the gradient of the value with respect to the weights.
    pullback : callable, optional
        ``pullback(logits, targets, weights) -> backward``: the loss is computed, and ``backward()`` is its gradient
        with respect to the logits, as often as it is called.
    vmapped : callable, optional
        ``vmapped(logits, targets, weights) -> (values, dlogits)`` of arrays with one more axis in front, over which
        the framework maps the loss and its gradient.
    cast : callable, optional
        ``cast(dtype) -> Subject``: the same loss of arrays of another dtype.
    dtypes : tuple of str
        The dtypes that ``cast`` knows.
    scalar : bool
        Whether ``upstream`` takes a number, because the loss is one.
    weights : {"any", "binary", "prefix", "ones"}
        The weights that the loss can be asked with: any numbers, 0 and 1 alone, 1 up to the end of each sequence and 0
        behind it, or none at all.
    ignore_label : int, optional
        The label that leaves a token out. No token that counts has it, though it may be a class.
    quick : callable, optional
        The same loss, for the search of a smaller example: quicker where each shape is met once. What is found is asked
        of ``loss`` again.
    objective : seqloss.testing.oracle_objectives.Objective
        What of a token is added up; by default its cross entropy. One with class weights or a prior is asked with as
        many classes as these have. Its value is the mean all the same, ``sum(weights * loss) / sum(weights)``, without
        the class weights in the denominator.
    linear : Linear, optional
        Of a loss that makes the logits itself: how it is asked with a kernel. ``loss`` has the identity for one.
    linear_modes : mapping of str to callable
        ``linear.ask`` by the name of how else it can be asked, compiled.
    """

    loss: Loss
    upstream: Callable[[Array, Array, Array, Array], Any] | None = None
    modes: Mapping[str, Loss] = field(default_factory=dict)
    layouts: Mapping[str, Loss] = field(default_factory=dict)
    surroundings: Mapping[str, Loss] = field(default_factory=dict)
    unrecorded: Mapping[str, Callable[[Array, Array, Array], Array]] = field(default_factory=dict)
    second: Callable[[Array, Array, Array, Array], Array] | None = None
    dweights: Callable[[Array, Array, Array], Array] | None = None
    pullback: Callable[[Array, Array, Array], Callable[[], Array]] | None = None
    vmapped: Callable[[Array, Array, Array], tuple[Array, Array]] | None = None
    cast: Callable[[str], "Subject"] | None = None
    dtypes: tuple[str, ...] = ()
    scalar: bool = False
    weights: str = "any"
    ignore_label: int | None = None
    quick: Loss | None = None
    objective: Objective = PLAIN
    linear: Linear | None = None
    linear_modes: Mapping[str, Callable[[Layer], LayerAnswer]] = field(default_factory=dict)

    def __call__(self, logits: Array, targets: Array, weights: Array) -> Any:
        return self.loss(logits, targets, weights)
