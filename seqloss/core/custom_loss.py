"""Token losses from a caller's ``softmax_loss_function``."""

from collections.abc import Callable
from typing import Any

from seqloss.core import dtypes, reduction, shapes
from seqloss.core.arguments import Sequence
from seqloss.core.errors import ArgumentTypeError, BackendError
from seqloss.core.protocol import Array


def token_losses(call: Sequence, logits: Array, function: Callable[..., Any]) -> Array:
    """``function(labels=, logits=)`` on flat arrays, as [batch, time] in the compute dtype.

    A token of weight 0 is handed over as label 0, and its row as zeros if it is not finite, so that a mask masks here
    as well as it does in the built-in loss.
    """
    backend = call.backend
    batch, time, last = backend.sizes(logits)
    labels = call.targets
    active = call.weights.active
    if active is not None:
        labels = backend.where(active, labels, 0)
        harmless = active | backend.all(backend.isfinite(logits), axis=-1)
        logits = backend.where(backend.expand_dims(harmless, axis=-1), logits, 0.0)
    labels = backend.reshape(labels, (batch * time,))
    losses = function(labels=labels, logits=backend.reshape(logits, (batch * time, last)))
    if not backend.owns(losses):
        raise ArgumentTypeError(
            "softmax_loss_function must return an array of the framework of its logits, "
            f"got a {type(losses).__qualname__}"
        )
    is_open = shapes.custom_loss(backend.shape(losses), backend.shape(labels)[0])  # type: ignore[index]  # rank 1
    dtypes.float_dtype("the result of softmax_loss_function", backend.dtype(losses))
    if is_open:
        agree, (_, losses) = backend.sizes_agree([labels, losses], shapes.CUSTOM_SIZES_DIFFER)
        losses = backend.where(agree, losses, float("nan"))
    losses = backend.reshape(backend.astype(losses, backend.dtype(call.weights.values)), (batch, time))
    return reduction.countable(backend, losses, active)


def differentiated(call: Sequence, function: Callable[..., Any]) -> tuple[Array, Callable[[Array], Array]]:
    """The token losses, and the map from their cotangent to that of the logits."""
    result = call.backend.vjp(lambda logits: token_losses(call, logits, function), call.logits)
    if result is None:
        raise BackendError(
            "a softmax_loss_function on NumPy arrays has no gradient, because nothing can differentiate it; "
            "pass arrays of another framework, or call sequence_loss for the value"
        )
    return result
