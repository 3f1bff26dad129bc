"""Token losses from a caller's ``softmax_loss_function``."""

from collections.abc import Callable
from typing import Any

from seqloss.core import dtypes, open_sizes, shapes
from seqloss.core.errors import ArgumentTypeError, BackendError
from seqloss.core.protocol import Array, Backend
from seqloss.losses import counting
from seqloss.losses.arguments import SequenceArguments


def token_losses(call: SequenceArguments, logits: Array, active: Array | None, function: Callable[..., Any]) -> Array:
    """The losses of a call, [batch, time], with 0 for what weight 0 must remove."""
    losses = of_batch(call.backend, function, call.targets, logits, active)
    return counting.without_masked_nan(call.backend, losses, active)


def of_batch(
    backend: Backend, function: Callable[..., Any], labels: Array, logits: Array, active: Array | None
) -> Array:
    """The losses [batch, time] of logits [batch, time, classes] and of labels [batch, time] or of one shape with them.

    The function gets flat arrays. The labels of a token of weight 0 are 0.
    """
    batch, time, _ = backend.sizes(logits)
    if active is not None:
        counts = active if len(backend.sizes(labels)) == 2 else backend.expand_dims(active, axis=-1)
        labels, active = backend.where(counts, labels, 0), backend.reshape(active, (batch * time,))
    labels, logits = (backend.reshape(x, (batch * time, *backend.sizes(x)[2:])) for x in (labels, logits))
    return backend.reshape(of_rows(backend, function, labels, logits, active, "[batch * time]"), (batch, time))


def of_rows(
    backend: Backend, function: Callable[..., Any], labels: Array, logits: Array, active: Array | None, form: str
) -> Array:
    """``function(labels=, logits=)``, one float for each row of logits, as [rows] in the compute dtype.

    ``form`` is that shape in words. A row that does not count is passed as zeros if it is not finite, so that a mask
    masks as well as in the built-in loss. Labels are passed as they are.
    """
    if active is not None:
        harmless = active | backend.all(backend.isfinite(logits), axis=-1)
        logits = backend.where(backend.expand_dims(harmless, axis=-1), logits, 0.0)
    losses = function(labels=labels, logits=logits)
    if not backend.owns(losses):
        raise ArgumentTypeError(
            "softmax_loss_function must return an array of the same framework as its logits, got a "
            f"{type(losses).__qualname__}"
        )
    is_open = shapes.custom_loss(backend.shape(losses), backend.shape(logits)[0], form)  # type: ignore[index]  # rank 2
    dtypes.float_dtype("the result of softmax_loss_function", backend.dtype(losses))
    if is_open:
        # Only leading sizes are compared, so the rows must have no other sizes.
        rows = backend.all(backend.isfinite(logits), axis=-1)
        sizes_match, (_, losses) = backend.sizes_agree([rows, losses], open_sizes.custom_sizes_differ(form))
        losses = backend.nan_unless(sizes_match, losses)
    return backend.astype(losses, dtypes.compute_dtype(backend.dtype(logits)))


def differentiated(
    call: SequenceArguments, active: Array | None, function: Callable[..., Any]
) -> tuple[Array, Callable[[Array], Array]]:
    """The token losses, and the map from their cotangent to that of the logits."""
    result = call.backend.vjp(lambda logits: token_losses(call, logits, active, function), call.logits)
    if result is None:
        raise BackendError(
            "a softmax_loss_function on NumPy arrays has no gradient, because NumPy cannot differentiate it; pass "
            "arrays of another framework, or call sequence_loss for the value alone"
        )
    return result
