"""What flags and keys mean: numerators, denominators and 0/0, as a forward and an explicit pullback.

With weights w and token losses nll, both [batch, time], the flags of the sequence loss mean:

* averaging divides ``sum(w * nll)`` by ``sum(w)`` over the same axes (TensorFlow's rule: never by the batch size);
* "summing" divides it by the number of non-zero weights;
* with neither, ``w * nll`` is returned as it is.

The keys of ``seqloss.Reduction`` reduce over all axes, and have two more denominators: the number of elements, and
none at all. A denominator of 0 gives 0, and zero gradients.
"""

from typing import Any, NamedTuple

from seqloss.core.protocol import SMALLEST_ACTIVE, Array, Backend

WEIGHTS, ACTIVE, ELEMENTS, NOTHING = "weights", "active", "elements", "nothing"
"""Denominators: the sum of the weights, the number of those that are not 0, the number of losses, and 1."""

DENOMINATORS = {
    "weighted_sum": NOTHING,
    "weighted_mean": WEIGHTS,
    "weighted_sum_over_batch_size": ELEMENTS,
    "weighted_sum_by_nonzero_weights": ACTIVE,
}


class Plan(NamedTuple):
    """The axes that are reduced, and what the sum over them is divided by. Without axes nothing is divided."""

    axis: tuple[int, ...]
    denominator: str


class Weights(NamedTuple):
    """Weights in the compute dtype, made ready: exactly 0 where a token is inactive.

    ``active`` is None if every token counts.
    """

    values: Array
    active: Array | None


def plan(
    average_across_timesteps: bool, average_across_batch: bool, sum_over_timesteps: bool, sum_over_batch: bool
) -> Plan:
    """The meaning of flags that have passed :func:`seqloss.core.options.flags`."""
    batch = (0,) if average_across_batch or sum_over_batch else ()
    time = (1,) if average_across_timesteps or sum_over_timesteps else ()
    return Plan(batch + time, ACTIVE if sum_over_timesteps or sum_over_batch else WEIGHTS)


def prepare(backend: Backend, values: Array, fixed: bool) -> Weights:
    """``values`` in the compute dtype as :class:`Weights`. A NaN weight is active: it must be seen in the result.

    ``fixed`` says that nobody will ask for the gradient of the weights.
    """
    inactive = abs(values) < SMALLEST_ACTIVE
    if fixed:
        return Weights(backend.where(inactive, 0.0, values), ~inactive)
    # Straight-through: a flushed weight is 0, yet the loss keeps the derivative that it has at weight 0.
    return Weights(values - backend.stop_gradient(backend.where(inactive, values, 0.0)), ~inactive)


def unit(backend: Backend, targets: Array, dtype: str) -> Weights:
    """The weights of a call without weights: all ones."""
    return Weights(backend.ones_like(targets, dtype=dtype), None)


def prepare_any(backend: Backend, weights: Array | None, targets: Array, dtype: str, fixed: bool) -> Weights:
    """Weights of any dtype, or None, made ready in the compute dtype."""
    if weights is None:
        return unit(backend, targets, dtype)
    return prepare(backend, backend.astype(weights, dtype), fixed)


def countable(backend: Backend, nll: Array, active: Array | None) -> Array:
    """Token losses without what weight 0 must remove: only what is not finite, so that d/dw stays right there."""
    return nll if active is None else backend.where(active | backend.isfinite(nll), nll, 0.0)


class Reduced(NamedTuple):
    """A loss with its denominator (1 in place of 0) and where that was 0; None where there is nothing to divide by.

    ``empty`` is None too where the sum over nothing is 0 by itself.
    """

    loss: Array
    safe: Any
    empty: Array | None


def forward(backend: Backend, plan: Plan, losses: Array, weights: Weights) -> Reduced:
    """Reduce countable token losses."""
    weighted = losses * weights.values
    if not plan.axis:
        return Reduced(weighted, None, None)
    if plan.denominator == NOTHING:
        return Reduced(backend.sum(weighted, axis=plan.axis), None, None)
    if plan.denominator == ELEMENTS:
        total = backend.sum(weighted, axis=plan.axis)
        # In the dtype of the losses: NumPy 1 makes a float64 of a float32 scalar and a Python number.
        ones = backend.ones_like(total, dtype=backend.dtype(total))
        safe = backend.astype(ones * _elements(backend, weighted, plan.axis), backend.dtype(total))
        return Reduced(_refined(backend, plan, losses, weights, total / safe, safe), safe, None)
    if plan.denominator == ACTIVE and weights.active is not None:
        count = backend.count_nonzero(weights.active, axis=plan.axis)
        denominator = backend.astype(count, backend.dtype(weights.values))
    else:
        denominator = backend.sum(weights.values, axis=plan.axis)
    empty = backend.equal(denominator, 0.0)
    safe = backend.where(empty, 1.0, denominator)
    loss = _refined(backend, plan, losses, weights, backend.sum(weighted, axis=plan.axis) / safe, safe)
    return Reduced(backend.where(empty, 0.0, loss), safe, empty)


def _refined(backend: Backend, plan: Plan, losses: Array, weights: Weights, loss: Array, safe: Array) -> Array:
    """A quotient of sums after one step of iterative refinement: with the mean of what is left when it is taken away.

    Numerator, denominator and quotient are each rounded, sums are as good as the framework makes them, and all that is
    mended by what is left, if that is exact. The derivative is that of the quotient.
    """
    fixed = backend.stop_gradient
    center, values = fixed(loss), fixed(weights.values)
    if len(plan.axis) == 1:
        center = backend.expand_dims(center, axis=plan.axis[0])
    if plan.denominator == WEIGHTS:
        counts = values
    elif plan.denominator == ACTIVE and weights.active is not None:
        counts = backend.astype(weights.active, backend.dtype(values))
    else:
        counts = backend.ones_like(values, dtype=backend.dtype(values))
    rest = backend.residual(fixed(losses), values, center, counts, axis=plan.axis) / fixed(safe)
    return loss + backend.where(backend.isfinite(rest), rest, 0.0)


def _elements(backend: Backend, x: Array, axis: tuple[int, ...]) -> Any:
    """The number of elements along the axes, at least 1: a Python number where the sizes are known."""
    shape = backend.shape(x)
    total = None if shape is None else 1
    for i in axis:
        size = None if shape is None else shape[i]
        total = None if total is None or size is None else total * size
    if total is not None:
        return max(total, 1)
    count = backend.count_nonzero(backend.ones_like(x, dtype="bool"), axis=axis)
    return backend.where(backend.equal(count, 0), 1.0, backend.astype(count, backend.dtype(x)))


def pullback(
    backend: Backend,
    plan: Plan,
    losses: Array,
    weights: Weights,
    reduced: Reduced,
    cotangent: Array,
    wrt_weights: bool,
) -> tuple[Array, Array | None]:
    """d/dlosses, and d/dweights if it is wanted, for a cotangent of the shape of the loss."""
    loss = reduced.loss
    if reduced.safe is not None:
        cotangent = cotangent / reduced.safe
    if reduced.empty is not None:
        cotangent = backend.where(reduced.empty, 0.0, cotangent)
    if len(plan.axis) == 1:
        cotangent, loss = (backend.expand_dims(x, axis=plan.axis[0]) for x in (cotangent, loss))
    to_losses = cotangent * weights.values
    if not wrt_weights:
        return to_losses, None
    # The weights move their own sum, but no count.
    moves_denominator = bool(plan.axis) and plan.denominator == WEIGHTS
    return to_losses, cotangent * (losses - loss) if moves_denominator else cotangent * losses
