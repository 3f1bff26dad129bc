"""Token losses from a caller's ``softmax_loss_function``."""

from collections.abc import Callable
from typing import Any

from seqloss.core import dtypes, reduction, shapes
from seqloss.core.arguments import Sequence
from seqloss.core.errors import ArgumentTypeError, BackendError
from seqloss.core.protocol import Array, Backend


def token_losses(call: Sequence, logits: Array, function: Callable[..., Any]) -> Array:
    """``function(labels=, logits=)`` on flat arrays, as [batch, time] in the compute dtype.

    A token of weight 0 is handed over as label 0, and its row as zeros if it is not finite, so that a mask masks here
    as well as it does in the built-in loss.
    """
    backend = call.backend
    batch, time, last = backend.sizes(logits)
    labels = call.targets
    active = call.prepared().active
    if active is not None:
        labels, logits = backend.where(active, labels, 0), finite_rows(backend, logits, active)
    labels = backend.reshape(labels, (batch * time,))
    losses = function(labels=labels, logits=backend.reshape(logits, (batch * time, last)))
    losses = checked(backend, losses, labels, "[batch * time]")
    losses = backend.reshape(backend.astype(losses, call.dtype), (batch, time))
    return reduction.countable(backend, losses, active)


def finite_rows(backend: Backend, logits: Array, active: Array) -> Array:
    """The logits with zeros in place of those rows that do not count and are not finite."""
    harmless = active | backend.all(backend.isfinite(logits), axis=-1)
    return backend.where(backend.expand_dims(harmless, axis=-1), logits, 0.0)


def checked(backend: Backend, losses: Any, like: Array, form: str) -> Array:
    """What a custom loss returned, if it is one float for each entry of ``like``, of the shape ``form`` in words."""
    if not backend.owns(losses):
        raise ArgumentTypeError(
            "softmax_loss_function must return an array of the framework of its logits, "
            f"got a {type(losses).__qualname__}"
        )
    is_open = shapes.custom_loss(backend.shape(losses), backend.shape(like)[0], form)  # type: ignore[index]  # rank 1
    dtypes.float_dtype("the result of softmax_loss_function", backend.dtype(losses))
    if not is_open:
        return losses
    agree, (_, losses) = backend.sizes_agree([like, losses], shapes.custom_sizes_differ(form))
    return backend.nan_unless(agree, losses)


def differentiated(call: Sequence, function: Callable[..., Any]) -> tuple[Array, Callable[[Array], Array]]:
    """The token losses, and the map from their cotangent to that of the logits."""
    result = call.backend.vjp(lambda logits: token_losses(call, logits, function), call.logits)
    if result is None:
        raise BackendError(
            "a softmax_loss_function on NumPy arrays has no gradient, because nothing can differentiate it; "
            "pass arrays of another framework, or call sequence_loss for the value"
        )
    return result
