"""The weights of tokens: which of them count, and for how much."""

from typing import NamedTuple

from seqloss.core.protocol import SMALLEST_ACTIVE, Array, Backend


class Weights(NamedTuple):
    """The weights of tokens in the compute dtype: exactly 0 where a token is inactive.

    ``values`` None are all ones where a token is active; ``active`` is None if every token is known to count. In a mean
    each token counts ``units`` times its weight, and once where they are None.
    """

    values: Array | None
    active: Array | None
    units: Array | None = None


ONES = Weights(None, None)
"""The weights of a call without weights."""


def token_weights(
    backend: Backend, weights: Array | None, dtype: str, constant: bool, kept: Array | None = None
) -> Weights:
    """Weights of any dtype as :class:`Weights` in the compute dtype. A NaN weight is active: the result must show it.

    ``constant`` says that nobody will ask for the gradient of the weights. Where ``kept`` is False a token is ignored,
    whatever its weight, and no gradient flows to its weight.
    """
    if kept is not None and backend.surely_all(kept):
        kept = None
    if weights is None:
        return ONES if kept is None else Weights(None, kept)
    values = backend.astype(weights, dtype)
    if kept is not None:
        values = backend.where(kept, values, 0.0)
    inactive = abs(values) < SMALLEST_ACTIVE
    active = ~inactive
    if backend.surely_all(active):
        return Weights(values, None)
    if constant:
        return Weights(backend.where(inactive, 0.0, values), active)
    # Straight-through: a flushed weight is 0, yet the loss keeps the derivative that it has at weight 0.
    return Weights(values - backend.stop_gradient(backend.where(inactive, values, 0.0)), active)


def without_masked_nan(backend: Backend, nll: Array, active: Array | None) -> Array:
    """Token losses, 0 where weight 0 must remove one that is not finite. The others stay, so that d/dw is right."""
    return nll if active is None else backend.where(active | backend.isfinite(nll), nll, 0.0)


def without_removed(backend: Backend, to_weights: Array, kept: Array | None) -> Array:
    """The gradient with respect to weights, with 0 for tokens that are ignored whatever their weight."""
    return to_weights if kept is None else backend.where(kept, to_weights, 0.0)
