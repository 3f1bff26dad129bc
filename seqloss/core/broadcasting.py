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


def check(call: Call, weights: Argument | float, losses: shapes.Shape, of: str) -> Argument | float:
    """Weights for losses of this shape, which errors call by the name ``of``; in the compute dtype, not yet placed."""
    if isinstance(weights, float):
        return weights
    shapes.broadcastable(weights.name, weights.shape, of, losses)
    dtypes.weights_dtype(weights.dtype)
    # The argument keeps the name of its dtype: an integer has no gradient.
    return weights.holding(weights.facts.astype(weights.value, dtypes.compute_dtype(call.main.dtype)))


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
    facts = argument.facts
    value = facts.reshape(argument.value, facts.sizes(argument.value)[:-1])
    return Argument(argument.name, value, facts, shape[:-1], argument.dtype, argument.is_host)


def reduced(call: Call, losses: Array, weights: Argument | float, key: str) -> Array:
    """The weighted losses, reduced over all axes as a key of ``seqloss.Reduction`` says."""
    backend = call.backend
    prepared = _constant(call, losses, weights) if isinstance(weights, float) else _spread(call, losses, weights)
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


def _constant(call: Call, losses: Array, weight: float) -> reduction.Weights:
    """One number for all losses."""
    ones = reduction.unit(call.backend, losses, call.backend.dtype(losses))
    if weight == 1.0:
        return ones
    if abs(weight) < SMALLEST_ACTIVE:
        return reduction.Weights(ones.values * 0.0, ~call.backend.ones_like(losses, dtype="bool"))
    return reduction.Weights(ones.values * weight, None)


def _spread(call: Call, losses: Array, weights: Argument) -> reduction.Weights:
    values = call.place(weights)
    fixed = weights.is_host or weights.dtype not in dtypes.FLOATS or not call.backend.needs_grad(values)
    small = reduction.prepare(call.backend, values, fixed)
    # Made ready before they are spread, because there are fewer of them then.
    values, active = (call.broadcast(x, losses, shapes.WEIGHT_SIZES_DIFFER) for x in small)
    return reduction.Weights(values, active)
