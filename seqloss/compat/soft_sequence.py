"""The sequence loss against targets [batch, time, classes], one-hot or soft."""

from collections.abc import Callable
from typing import Any

from seqloss.core import dtypes, open_sizes, options, shapes
from seqloss.core.argument import Argument
from seqloss.core.call import Call
from seqloss.core.protocol import Array
from seqloss.losses import counting, cross_entropies, custom, reduction


def sequence_loss(
    call: Call,
    targets: Argument,
    weights: Any,
    flags: tuple[bool, bool, bool, bool],
    function: Callable[..., Any] | None,
    name: str | None,
) -> Array:
    """The loss of logits, the main argument of the call, in the compute dtype.

    Gradients flow to logits, as ``softmax(logits) - targets`` whatever the targets add up to, to targets and to
    weights.
    """
    plan = reduction.plan(*options.flags(*flags))
    options.loss_options(function, name, None)
    shapes.sequence_logits(call.main.shape)
    shapes.equal_shape(targets.name, targets.shape, "logits", call.main.shape)
    with call.backend.scope(name):
        token_weights = _token_weights(call, weights)
        if function is None:
            losses = cross_entropies.soft(call, targets, broadcasts=False, tf_gradient=True)
        else:
            losses = _custom(call, targets, token_weights.active, function)
        losses = counting.without_masked_nan(call.backend, losses, token_weights.active)
        return call.guard(reduction.forward(call.backend, plan, losses, token_weights).loss)


def _token_weights(call: Call, value: Any) -> counting.Weights:
    if value is None:
        return counting.ONES
    z, weights = call.main, call.beside("weights", value)
    is_open = shapes.sequence_weights(weights.shape, z.shape, weights.dtype)
    dtypes.weights_dtype(weights.dtype)
    dtype = dtypes.compute_dtype(z.dtype)
    values = call.place(weights, dtype, rank=2)
    if is_open:
        _, values = call.compare([z.value, values], open_sizes.SIZES_DIFFER)
    return counting.token_weights(call.backend, values, dtype, call.is_constant(weights, values))


def _custom(call: Call, targets: Argument, active: Array | None, function: Callable[..., Any]) -> Array:
    """A caller's losses of labels and logits, both [batch * time, classes]."""
    dtypes.float_dtype("logits", call.main.dtype)
    dtypes.weights_dtype(targets.dtype, targets.name)
    logits = call.place(call.main, rank=3)
    labels = call.place(targets, dtypes.compute_dtype(call.main.dtype), rank=3)
    if shapes.is_open(call.main.shape, targets.shape):
        logits, labels = call.compare_same(logits, labels, open_sizes.SOFT_SIZES_DIFFER)
    return custom.of_batch(call.backend, function, labels, logits, active)
