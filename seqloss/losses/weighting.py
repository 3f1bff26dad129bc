"""Weights that are broadcast to losses of any shape, and the keys of ``seqloss.Reduction``.

Weights are a scalar, or of the rank of the losses with each of their sizes or 1. A function that takes them goes from
:func:`argument` to :func:`check`, before anything is computed, then to :func:`token_weights`, and ends with
:func:`reduced`.
"""

from typing import Any

from seqloss.core import dtypes, open_sizes, options, shapes
from seqloss.core.argument import Argument
from seqloss.core.call import Call
from seqloss.core.protocol import SMALLEST_ACTIVE, Array
from seqloss.losses import counting, reduction


def argument(call: Call, name: str, value: Any) -> Argument | float:
    """Arrays as :class:`Argument` and Python numbers as float: a number needs no placing, and every compiler can trace
    it."""
    if not isinstance(value, (int, float)):
        return call.beside(name, value)
    return options.finite_float(name, value)


def check(weights: Argument | float, losses: shapes.Shape, of: str, classes: int | None = None) -> Argument | float:
    """Weights for losses of this shape, which errors call ``of``: the name of the labels if they are ids.

    For ids of ``classes`` an error also says how to choose from class weights.
    """
    if not isinstance(weights, float):
        shapes.scalar_or_equal_rank(weights.name, weights.shape, of, losses, classes)
        dtypes.weights_dtype(weights.dtype)
    return weights


def squeezed(call: Call, labels: Argument, weights: Argument | float) -> tuple[Argument, Argument | float]:
    """Labels and weights, without their last axis if it has size 1 and is one too many."""
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


def token_weights(call: Call, like: Array, weights: Argument | float) -> tuple[counting.Weights, bool]:
    """Weights in the shape of ``like``; and whether nobody asks for their gradient."""
    if isinstance(weights, float):
        return _one_number(call, like, weights), True
    dtype = dtypes.compute_dtype(call.main.dtype)
    values = call.place(weights, dtype)
    constant = call.is_constant(weights, values)
    # Small ones first, before they are spread, because there are fewer of them then.
    small = counting.token_weights(call.backend, values, dtype, constant)
    spread = (None if x is None else call.broadcast(x, like, open_sizes.WEIGHT_SIZES_DIFFER) for x in small)
    return counting.Weights(*spread), constant


def reduced(call: Call, losses: Array, weights: Argument | float, key: str) -> Array:
    """The weighted losses, reduced over all axes as a key of ``seqloss.Reduction`` says."""
    return reduced_with(call, losses, token_weights(call, losses, weights)[0], key)


def reduced_with(call: Call, losses: Array, weights: counting.Weights, key: str) -> Array:
    """The same with weights from :func:`token_weights`."""
    backend = call.backend
    losses = counting.without_masked_nan(backend, losses, weights.active)
    if key == "none":
        return reduction.forward(backend, reduction.Plan((), reduction.NOTHING), losses, weights).loss
    axes = tuple(range(len(backend.shape(losses) or ())))
    if not axes:  # a single loss, or an unknown rank
        axes = (0,)
        losses, *flat = (None if x is None else backend.reshape(x, (-1,)) for x in (losses, *weights))
        weights = counting.Weights(*flat)
    return reduction.forward(backend, reduction.Plan(axes, reduction.DENOMINATORS[key]), losses, weights).loss


def _one_number(call: Call, like: Array, weight: float) -> counting.Weights:
    """One number for all losses."""
    if weight == 1.0:
        return counting.ONES
    ones = call.backend.ones_like(like, dtype=dtypes.compute_dtype(call.main.dtype))
    if abs(weight) < SMALLEST_ACTIVE:
        return counting.Weights(ones * 0.0, ~call.backend.ones_like(like, dtype="bool"))
    return counting.Weights(ones * weight, None)
