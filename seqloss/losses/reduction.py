"""The meaning of flags and keys: numerators, denominators and 0/0, as a forward and an explicit pullback.

With weights w and token losses nll, both [batch, time], the flags of the sequence loss mean:

* averaging divides ``sum(w * nll)`` by ``sum(w)`` over the same axes (TensorFlow's rule: never by the batch size);
* "summing" divides it by the number of non-zero weights;
* with neither, ``w * nll`` is returned as it is.

The keys of ``seqloss.Reduction`` reduce over all axes, and have two more denominators: the number of elements, and
none at all. A denominator of 0 gives 0, and zero gradients.
"""

from typing import Any, NamedTuple

from seqloss.core.protocol import Array, Backend
from seqloss.losses.counting import Weights, without_masked_nan

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
    of_sequences: bool = False
    """Whether the mean is taken of the losses of sequences, over those that have an active token."""

    @property
    def is_scalar(self) -> bool:
        return self.of_sequences or self.axis == (0, 1)


class Denominator(NamedTuple):
    """The number that a sum is divided by; it does not depend on the losses."""

    by: Any
    """A wide sum, an array or a number."""
    divisor: Array | None = None
    """Of the pullback, as in :class:`Reduced`; so is ``empty``."""
    empty: Array | None = None


class Pulled(NamedTuple):
    """Gradients with respect to the parts of a loss; None for those that are not asked for or are 0."""

    losses: Array
    weights: Array | None
    units: Array | None


class Reduced(NamedTuple):
    """A loss, with what its pullback divides by: 1 in place of 0, and where that was 0.

    Both are None where nothing is divided, or where the divisor is the number of losses, which never is 0.
    """

    loss: Array
    divisor: Array | None
    empty: Array | None
    sequences: "Reduced | None" = None
    """The losses that a mean over sequences is taken of."""

    @classmethod
    def of(cls, residuals: Any) -> "Reduced":
        """The same from a plain tuple, as frameworks may give it back."""
        loss, divisor, empty, sequences = residuals
        return cls(loss, divisor, empty, None if sequences is None else cls.of(sequences))


def plan(
    average_across_timesteps: bool, average_across_batch: bool, sum_over_timesteps: bool, sum_over_batch: bool
) -> Plan:
    """The meaning of flags that have passed :func:`seqloss.core.options.flags`."""
    batch = (0,) if average_across_batch or sum_over_batch else ()
    time = (1,) if average_across_timesteps or sum_over_timesteps else ()
    return Plan(batch + time, ACTIVE if sum_over_timesteps or sum_over_batch else WEIGHTS)


def of_name(name: str) -> Plan:
    """The meaning of a value of ``reduction``."""
    return {
        "mean": Plan((0, 1), WEIGHTS),
        "sum": Plan((0, 1), NOTHING),
        "none": Plan((), NOTHING),
        "per_sequence": Plan((1,), WEIGHTS),
        "sequence_mean": Plan((1,), WEIGHTS, of_sequences=True),
    }[name]


def normalizer(backend: Backend, x: Array | None, dtype: str) -> Array | None:
    """A normalizer in the dtype of the losses: a constant, and NaN if it is negative.

    It comes as a number or as parts that add up to it.
    """
    if x is None:
        return None
    x = backend.astype(backend.stop_gradient(x), dtype)
    if backend.shape(x) not in ((), None):
        x = backend.sum(x, axis=(0,))
    return backend.nan_unless(~(x < 0), x)


def denominator(
    backend: Backend, plan: Plan, losses: Array, weights: Weights, normalizer: Array | None = None
) -> Denominator:
    """That of a plan that has axes and takes no mean of sequences. Of ``losses`` only sizes and dtype matter."""
    if normalizer is not None:
        return _divisor(backend, normalizer)
    if plan.denominator == NOTHING:
        return Denominator(1.0)
    if _counts_all(plan, weights):
        return Denominator(_elements(backend, losses, plan.axis))
    values, active, units = weights
    if plan.denominator == ACTIVE or (values is None and units is None):
        return _divisor(backend, backend.astype(backend.count_nonzero(active, axis=plan.axis), backend.dtype(losses)))
    if units is not None:
        units = without_masked_nan(backend, units, active)
    if values is None:
        values, units = units if active is None else backend.where(active, units, 0.0), None
    return _divisor(backend, backend.wide_sum(values, units, axis=plan.axis), is_wide=True)


def _divisor(backend: Backend, by: Any, is_wide: bool = False) -> Denominator:
    """An array as a denominator, or a wide sum."""
    divisor = backend.quotient(by, 1.0) if is_wide else by
    empty = backend.equal(divisor, 0.0)
    return Denominator(by, backend.where(empty, 1.0, divisor), empty)


def _counts_all(plan: Plan, weights: Weights) -> bool:
    """Whether the denominator is the number of losses."""
    if plan.denominator == WEIGHTS:
        return weights.values is None and weights.active is None and weights.units is None
    return plan.denominator == ELEMENTS or (plan.denominator == ACTIVE and weights.active is None)


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


def forward(
    backend: Backend,
    plan: Plan,
    losses: Array,
    weights: Weights,
    normalizer: Array | None = None,
    members: Array | None = None,
    known: Denominator | None = None,
) -> Reduced:
    """Reduce token losses, in which everything that weight 0 must remove is 0 already.

    A ``normalizer`` replaces the last denominator. Losses of packed sequences are [1, tokens]; where these
    are averaged along time, ``members`` [batch, tokens] says which tokens each of them has. ``known`` is what
    :func:`denominator` returned, if it was asked.
    """
    if members is not None:
        losses, weights = _apart(backend, losses, weights, members)
    if weights.values is None and weights.active is not None:
        losses = backend.where(weights.active, losses, 0.0)
    if not plan.axis:
        return Reduced(losses if weights.values is None else losses * weights.values, None, None)
    if plan.of_sequences:
        return _mean_of_sequences(backend, plan, losses, weights, normalizer)
    by, divisor, empty = known or denominator(backend, plan, losses, weights, normalizer)
    return Reduced(backend.quotient(backend.wide_sum(losses, weights.values, axis=plan.axis), by), divisor, empty)


def _apart(backend: Backend, losses: Array, weights: Weights, members: Array) -> tuple[Array, Weights]:
    """Each packed sequence in a row of its own, where the tokens of the other sequences are not active."""
    values, active, units = weights
    losses, values, units = (None if x is None else backend.where(members, x, 0.0) for x in (losses, values, units))
    return losses, Weights(values, members if active is None else members & active, units)


def _mean_of_sequences(
    backend: Backend, plan: Plan, losses: Array, weights: Weights, normalizer: Array | None
) -> Reduced:
    each = forward(backend, Plan(plan.axis, plan.denominator), losses, weights)
    numerator = backend.wide_sum(each.loss, None, axis=(0,))
    if normalizer is None and weights.active is None:
        sequences = _elements(backend, each.loss, (0,))
        return Reduced(backend.quotient(numerator, sequences), None, None, each)
    if normalizer is None:
        is_counted = ~backend.equal(backend.count_nonzero(weights.active, axis=(1,)), 0)
        normalizer = backend.astype(backend.count_nonzero(is_counted, axis=(0,)), backend.dtype(losses))
    by, divisor, empty = _divisor(backend, normalizer)
    return Reduced(backend.quotient(numerator, by), divisor, empty, each)


def pullback(
    backend: Backend,
    plan: Plan,
    losses: Array,
    weights: Weights,
    reduced: Reduced,
    cotangent: Array,
    wrt_weights: bool,
    has_normalizer: bool = False,
    wrt_units: bool = False,
    members: Array | None = None,
) -> Pulled:
    """The gradients that are wanted, for a cotangent of the shape of the loss."""
    if members is not None:
        apart = _apart(backend, losses, weights, members)
        pulled = pullback(backend, plan, *apart, reduced, cotangent, wrt_weights, has_normalizer, wrt_units)
        # Of each token one entry at most is not 0.
        inside = [None if x is None else backend.where(members, x, 0.0) for x in pulled]
        return Pulled(*(x if x is None else backend.expand_dims(backend.sum(x, axis=(0,)), axis=0) for x in inside))
    loss = reduced.loss
    if reduced.divisor is not None:
        cotangent = backend.where(reduced.empty, 0.0, cotangent / reduced.divisor)
    elif reduced.sequences is not None:
        cotangent = backend.astype(cotangent / _elements(backend, reduced.sequences.loss, (0,)), backend.dtype(losses))
    elif plan.axis and plan.denominator != NOTHING:
        # In the dtype of the losses: NumPy 1 makes a float64 of a float32 scalar and a Python number.
        cotangent = backend.astype(cotangent / _elements(backend, losses, plan.axis), backend.dtype(losses))
    if reduced.sequences is not None:
        each = reduced.sequences
        spread = cotangent * backend.ones_like(each.loss, dtype=backend.dtype(each.loss))
        each_plan = Plan(plan.axis, plan.denominator)
        return pullback(backend, each_plan, losses, weights, each, spread, wrt_weights, wrt_units=wrt_units)
    if len(plan.axis) == 1:
        cotangent, loss = (backend.expand_dims(x, axis=plan.axis[0]) for x in (cotangent, loss))
    if weights.values is None:
        to_losses = cotangent * backend.ones_like(losses, dtype=backend.dtype(losses))
        to_losses = to_losses if weights.active is None else backend.where(weights.active, to_losses, 0.0)
    else:
        to_losses = cotangent * weights.values
    # Weights and units move a sum of weights, but neither a count nor a normalizer.
    moves = bool(plan.axis) and plan.denominator == WEIGHTS and not has_normalizer
    to_weights = to_units = None
    if wrt_units and moves:
        to_units = backend.where(backend.equal(to_losses, 0.0), 0.0, -loss * to_losses)
    if wrt_weights and weights.values is not None:
        if moves and weights.units is not None:
            loss = loss * without_masked_nan(backend, weights.units, weights.active)
        to_weights = cotangent * (losses - loss if moves else losses)
    return Pulled(to_losses, to_weights, to_units)
