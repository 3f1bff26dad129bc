"""What the four flags mean: numerators, denominators and 0/0, as a forward and an explicit pullback.

With weights w and token losses nll, both [batch, time]:

* averaging divides ``sum(w * nll)`` by ``sum(w)`` over the same axes (TensorFlow's rule: never by the batch size);
* "summing" divides it by the number of non-zero weights;
* with neither, ``w * nll`` is returned as it is.

A denominator of 0 gives 0, and zero gradients.
"""

from typing import NamedTuple

from seqloss.core.protocol import SMALLEST_ACTIVE, Array, Backend


class Plan(NamedTuple):
    """A legal combination of the flags: the axes that are reduced, and whether the tokens or the weights count."""

    axis: tuple[int, ...]
    counts_tokens: bool


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
    return Plan(batch + time, sum_over_timesteps or sum_over_batch)


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


def countable(backend: Backend, nll: Array, active: Array | None) -> Array:
    """Token losses without what weight 0 must remove: only what is not finite, so that d/dw stays right there."""
    return nll if active is None else backend.where(active | backend.isfinite(nll), nll, 0.0)


class Reduced(NamedTuple):
    """A loss with its denominator (1 in place of 0) and where that was 0; both None without a reduction."""

    loss: Array
    safe: Array | None
    empty: Array | None


def forward(backend: Backend, plan: Plan, losses: Array, weights: Weights) -> Reduced:
    """Reduce countable token losses."""
    weighted = losses * weights.values
    if not plan.axis:
        return Reduced(weighted, None, None)
    if plan.counts_tokens and weights.active is not None:
        count = backend.count_nonzero(weights.active, axis=plan.axis)
        denominator = backend.astype(count, backend.dtype(weights.values))
    else:
        denominator = backend.sum(weights.values, axis=plan.axis)
    empty = denominator == 0.0
    safe = backend.where(empty, 1.0, denominator)
    return Reduced(backend.where(empty, 0.0, backend.sum(weighted, axis=plan.axis) / safe), safe, empty)


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
    if reduced.empty is not None:
        cotangent = backend.where(reduced.empty, 0.0, cotangent / reduced.safe)
        if plan.axis == (1,):
            cotangent, loss = backend.expand_dims(cotangent, axis=1), backend.expand_dims(loss, axis=1)
    to_losses = cotangent * weights.values
    if not wrt_weights:
        return to_losses, None
    # The weights move their own sum, but not the number of tokens.
    moves_denominator = bool(plan.axis) and not plan.counts_tokens
    return to_losses, cotangent * (losses - loss) if moves_denominator else cotangent * losses
