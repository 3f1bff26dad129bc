"""The cross entropies as the public functions share them: checked, placed and computed, but neither named nor guarded.

Each takes a :class:`~seqloss.core.call.Call` whose main argument is the logits, and the other arrays as its
:class:`~seqloss.core.argument.Argument`; it returns the losses in the compute dtype. The caller opens the name scope
around it, and passes the result to the user through :meth:`Call.guard`::

    call = Call("logits", logits)
    labels = call.beside("labels", labels)
    with call.backend.scope(name):
        return call.guard(cross_entropies.soft(call, labels))

For ``seqloss.compat`` there are keywords for what TensorFlow does differently: ``tf_gradient`` (probabilities are not
multiplied by the sum of the labels), ``stop_labels`` (no gradient with respect to labels), and
:func:`in_dtype_of_logits`.
"""

from typing import Any

from seqloss.core import dtypes, open_sizes, shapes
from seqloss.core import labels as label_policy
from seqloss.core.argument import Argument
from seqloss.core.call import Call, see_order
from seqloss.core.protocol import SMALLEST_ACTIVE, Array
from seqloss.losses import ops, weighting

NO_MASK = "leave such positions out with seqloss.token_loss, as in active=(labels != {})"
ZERO = "give such positions weight 0, as in weights=(labels != {})"
"""What helps against bad labels in a function without weights, and in one with them."""


def sparse(call: Call, labels: Argument) -> Array:
    """The losses [...] of logits [..., classes] against integer labels [...], read where that needs no waiting."""
    return ops.token_losses(call.backend, *_checked(call, labels, None), None)


def weighted_sparse(call: Call, labels: Argument, weights: Argument | float, key: str) -> Array:
    """The same, weighted and reduced as in :mod:`seqloss.losses.weighting`. Labels of weight 0 may have any value."""
    logits, placed = _checked(call, labels, weights)
    token_weights, constant = weighting.token_weights(call, placed, weights)
    losses = ops.weighted_token_losses(call.backend, logits, placed, token_weights.active, constant)
    return weighting.reduced_with(call, losses, token_weights, key)


def _checked(call: Call, labels: Argument, weights: Argument | float | None) -> tuple[Array, Array]:
    """Logits and integer labels, placed."""
    z = call.main
    see_order(z, labels)
    shapes.token_logits(z.shape)
    is_open = shapes.token_argument(labels.name, labels.shape, z.shape, labels.dtype)
    shapes.classes(z.shape)
    dtypes.float_dtype(z.name, z.dtype)
    dtypes.targets_dtype(labels.dtype, labels.name)
    logits, classes = z.value, None if z.shape is None else z.shape[-1]
    if isinstance(weights, float) and abs(weights) < SMALLEST_ACTIVE:
        placed = call.place(label_policy.for_placing(labels, classes) if labels.is_host else labels)
    else:
        mask = weights if isinstance(weights, Argument) else None
        placed = call.place_labels(labels, classes, NO_MASK if weights is None else ZERO, mask)
    if is_open:
        logits, placed = call.compare([logits, placed], open_sizes.LABEL_SIZES_DIFFER)
    return logits, placed


def soft(
    call: Call,
    labels: Argument,
    axis: int = -1,
    *,
    smoothing: float = 0.0,
    broadcasts: bool = True,
    tf_gradient: bool = False,
    stop_labels: bool = False,
) -> Array:
    """The losses of logits against labels of any sum, both with classes along ``axis``.

    Parameters
    ----------
    smoothing : float
        Labels become ``labels * (1 - smoothing) + smoothing / classes`` if it is above 0.
    broadcasts : bool
        Whether labels may have a size of 1 where logits have another; else the shapes must be equal.
    tf_gradient : bool
        Whether the gradient with respect to logits is ``softmax(logits) - labels``, as in TensorFlow, whatever the
        labels add up to. The derivative of the loss has ``sum(labels) * softmax(logits)``.
    stop_labels : bool
        Whether labels are constants.
    """
    backend, z = call.backend, call.main
    shapes.token_logits(z.shape)
    axis = shapes.class_axis(axis, z.shape)
    if broadcasts:
        is_open = shapes.equal_rank_or_one(labels.name, labels.shape, "logits", z.shape)
    else:
        is_open = shapes.equal_shape(labels.name, labels.shape, "logits", z.shape)
    shapes.classes(z.shape, axis)
    logits, y = z.value, _numbers(call, labels)
    if broadcasts and (is_open or labels.shape != z.shape):
        y = call.broadcast(y, logits, open_sizes.SOFT_SIZES_DIFFER)
    elif is_open:
        logits, y = call.compare_same(logits, y, open_sizes.SOFT_SIZES_DIFFER)
    if stop_labels:
        y = backend.stop_gradient(y)
    if axis != -1:
        order = [i for i in range(len(z.shape or ())) if i != axis] + [axis]
        logits, y = backend.permute_dims(logits, order), backend.permute_dims(y, order)
    if smoothing > 0:
        y = y * (1 - smoothing) + smoothing / _classes(call, y)
    mass = backend.sum(y, axis=(-1,))
    if tf_gradient:
        mass = backend.ones_like(mass, dtype=backend.dtype(mass))
    return ops.label_losses(backend, logits, y, mass, None, not stop_labels and backend.needs_grad(y))


def sigmoid(
    call: Call, labels: Argument, pos_weight: Argument | float | None = None, *, smoothing: float = 0.0
) -> Array:
    """The loss of each of independent classes: labels of the shape of logits, pos_weight broadcastable to it.

    With ``smoothing`` above 0 labels become ``labels * (1 - smoothing) + smoothing / 2``.
    """
    z = call.main
    is_open = shapes.equal_shape(labels.name, labels.shape, "logits", z.shape)
    logits, y = z.value, _numbers(call, labels)
    if is_open:
        logits, y = call.compare_same(logits, y, open_sizes.SOFT_SIZES_DIFFER)
    if smoothing > 0:
        y = y * (1 - smoothing) + smoothing / 2
    if isinstance(pos_weight, Argument):
        q = _pos_weight(call, pos_weight, logits)
    else:
        q = None if pos_weight is None else call.backend.ones_like(y, dtype=call.backend.dtype(y)) * pos_weight
    needs_grad = call.backend.needs_grad
    return ops.sigmoid_losses(call.backend, logits, y, q, needs_grad(y) or (q is not None and needs_grad(q)))


def in_dtype_of_logits(call: Call, losses: Array) -> Array:
    """Losses as TensorFlow returns them: in half precision for logits in half precision."""
    return call.backend.astype(losses, call.main.dtype)


def _numbers(call: Call, labels: Argument) -> Array:
    """Labels that are quantities, in the compute dtype."""
    see_order(call.main, labels, 0)
    dtypes.float_dtype(call.main.name, call.main.dtype)
    dtypes.weights_dtype(labels.dtype, labels.name)
    return call.place(labels, dtypes.compute_dtype(call.main.dtype))


def _classes(call: Call, y: Array) -> Any:
    """The size of the last axis: a number, or a column of the framework where it is unknown."""
    shape = call.backend.shape(y)
    if shape is not None and shape[-1] is not None:
        return shape[-1]
    ones = call.backend.ones_like(y, dtype=call.backend.dtype(y))
    return call.backend.expand_dims(call.backend.sum(ones, axis=(-1,)), axis=-1)


def _pos_weight(call: Call, pos_weight: Argument, logits: Array) -> Array:
    shape = call.main.shape
    shapes.numpy_trailing(pos_weight.name, pos_weight.shape, "logits", shape)
    dtypes.weights_dtype(pos_weight.dtype, pos_weight.name)
    q = call.place(pos_weight, dtypes.compute_dtype(call.main.dtype))
    if shape is not None and pos_weight.shape is not None and pos_weight.shape:
        q = call.backend.reshape(q, (1,) * (len(shape) - len(pos_weight.shape)) + call.backend.sizes(q))
    return call.broadcast(q, logits, open_sizes.POS_WEIGHT_SIZES_DIFFER)
