"""The sequence loss against targets [batch, time, classes], one-hot or soft."""

from collections.abc import Callable
from typing import Any

from seqloss.core import custom_loss, dtypes, entropies, options, reduction, shapes
from seqloss.core.call import Call
from seqloss.core.protocol import Argument, Array


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
    shapes.same(targets.name, targets.shape, "logits", call.main.shape)
    with call.backend.scope(name):
        given = None if weights is None else _prepared(call, call.beside("weights", weights))
        active = None if given is None else given.active
        if function is None:
            losses = entropies.soft(call, targets, broadcasts=False, tf_gradient=True)
        else:
            losses = _custom(call, targets, active, function)
        losses = reduction.countable(call.backend, losses, active)
        used = reduction.unit(call.backend, losses, call.backend.dtype(losses)) if given is None else given
        return call.guard(reduction.forward(call.backend, plan, losses, used).loss)


def _prepared(call: Call, weights: Argument) -> reduction.Weights:
    z = call.main
    is_open = shapes.sequence_weights(weights.shape, z.shape, weights.dtype)
    dtypes.weights_dtype(weights.dtype)
    values = call.place(weights, dtypes.compute_dtype(z.dtype), rank=2)
    if is_open:
        _, values = call.compare([z.value, values], shapes.SIZES_DIFFER)
    fixed = weights.is_host or weights.dtype not in dtypes.FLOATS or not call.backend.needs_grad(values)
    return reduction.prepare(call.backend, values, fixed)


def _custom(call: Call, targets: Argument, active: Array | None, function: Callable[..., Any]) -> Array:
    """A caller's losses of labels and logits, both [batch * time, classes]."""
    dtypes.float_dtype("logits", call.main.dtype)
    dtypes.weights_dtype(targets.dtype, targets.name)
    logits = call.place(call.main, rank=3)
    labels = call.place(targets, dtypes.compute_dtype(call.main.dtype), rank=3)
    if shapes.is_open(call.main.shape, targets.shape):
        logits, labels = call.compare_same(logits, labels, shapes.SOFT_SIZES_DIFFER)
    return custom_loss.of_batch(call.backend, function, labels, logits, active)
