"""Weights that are broadcast to losses of any shape, and the keys of ``seqloss.Reduction``.

Weights are a scalar, or of the rank of the losses with each of their sizes or 1. A function that takes them goes from
:func:`given` to :func:`check`, before anything is computed, and ends with :func:`reduced`.
"""

from typing import Any

from seqloss.core import dtypes, options, reduction, shapes
from seqloss.core.call import Call
from seqloss.core.protocol import SMALLEST_ACTIVE, Argument, Array


def given(call: Call, name: str, value: Any) -> Argument | float:
    """An array; or a Python number as a float, which no framework has to place and every compiler can trace."""
    if not isinstance(value, (int, float)):
        return call.beside(name, value)
    return options.finite_float(name, value)


def check(weights: Argument | float, losses: shapes.Shape, of: str, classes: int | None = None) -> Argument | float:
    """Weights for losses of this shape, which errors call by the name ``of``: that of the labels if they are ids.

    Ids of ``classes`` can choose from weights of classes, which an error says.
    """
    if not isinstance(weights, float):
        shapes.broadcastable(weights.name, weights.shape, of, losses, classes)
        dtypes.weights_dtype(weights.dtype)
    return weights


def squeezed(call: Call, labels: Argument, weights: Argument | float) -> tuple[Argument, Argument | float]:
    """Labels and weights without a last axis of size 1, if they have one axis more than they should."""
    labels = _without_last(labels, call.main.shape)
    if isinstance(weights, float) or labels.shape is None:
        return labels, weights
    return labels, _without_last(weights, (*labels.shape, None))


def _without_last(argument: Argument, long: shapes.Shape) -> Argument:
    """The argument, without its last axis if that is of size 1 and the rank is that of ``long``."""
    shape = argument.shape
    if not shape or long is None or len(shape) != len(long) or shape[-1] not in (1, None):
        return argument
    return argument.shaped(shape[:-1])


def prepare(call: Call, like: Array, weights: Argument | float) -> tuple[reduction.Weights, bool]:
    """Weights in the shape of ``like``; and whether nobody asks for their gradient."""
    if isinstance(weights, float):
        return _constant(call, like, weights), True
    values = call.place(weights, dtypes.compute_dtype(call.main.dtype))
    fixed = weights.is_host or weights.dtype not in dtypes.FLOATS or not call.backend.needs_grad(values)
    # Made ready before they are spread, because there are fewer of them then.
    small = reduction.prepare(call.backend, values, fixed)
    return reduction.Weights(*(call.broadcast(x, like, shapes.WEIGHT_SIZES_DIFFER) for x in small)), fixed


def reduced(
    call: Call, losses: Array, weights: Argument | float, key: str, prepared: reduction.Weights | None = None
) -> Array:
    """The weighted losses, reduced over all axes as a key of ``seqloss.Reduction`` says.

    ``prepared`` are the weights from :func:`prepare`, if they are there already.
    """
    backend = call.backend
    prepared = prepared or prepare(call, losses, weights)[0]
    losses = reduction.countable(backend, losses, prepared.active)
    if key == "none":
        return reduction.forward(backend, reduction.Plan((), reduction.NOTHING), losses, prepared).loss
    denominator = reduction.DENOMINATORS[key]
    if prepared.active is None and (denominator == reduction.ACTIVE or weights == 1.0):
        denominator = reduction.NOTHING if denominator == reduction.NOTHING else reduction.ELEMENTS
    shape = backend.shape(losses)
    axes = tuple(range(len(shape or ())))
    if not axes:  # a single loss, or an unknown rank
        axes = (0,)
        active = None if prepared.active is None else backend.reshape(prepared.active, (-1,))
        prepared = reduction.Weights(backend.reshape(prepared.values, (-1,)), active)
        losses = backend.reshape(losses, (-1,))
    return reduction.forward(backend, reduction.Plan(axes, denominator), losses, prepared).loss


def _constant(call: Call, like: Array, weight: float) -> reduction.Weights:
    """One number for all losses."""
    ones = reduction.unit(call.backend, like, dtypes.compute_dtype(call.main.dtype))
    if weight == 1.0:
        return ones
    if abs(weight) < SMALLEST_ACTIVE:
        return reduction.Weights(ones.values * 0.0, ~call.backend.ones_like(like, dtype="bool"))
    return reduction.Weights(ones.values * weight, None)
