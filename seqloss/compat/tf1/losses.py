"""``tf.losses`` of TensorFlow 1.15: weighted losses with a key for the reduction."""

from typing import Any

import seqloss
from seqloss.compat import results
from seqloss.core import broadcasting, entropies, options, shapes
from seqloss.core.call import Call
from seqloss.core.protocol import Array
from seqloss.weighted import Reduction

__all__ = [
    "Reduction",
    "compute_weighted_loss",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]


def compute_weighted_loss(
    losses: Array,
    weights: Array | float = 1.0,
    scope: str | None = None,
    loss_collection: Any = "losses",
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Array:
    """:func:`seqloss.compute_weighted_loss` with the result in the dtype of losses.

    Parameters
    ----------
    losses : array of shape [...]
        As there.
    weights : array or float, default 1.0
        As there.
    scope : str, optional
        As there.
    loss_collection : object, default "losses"
        Ignored: there are no collections.
    reduction : str, default Reduction.SUM_BY_NONZERO_WEIGHTS
        As there.

    Returns
    -------
    array
        The loss.
    """
    return results.like(
        "losses", losses, seqloss.compute_weighted_loss(losses, weights, scope, loss_collection, reduction)
    )


def softmax_cross_entropy(
    onehot_labels: Array,
    logits: Array,
    weights: Array | float = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: Any = "losses",
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Array:
    """:func:`seqloss.softmax_cross_entropy` with TensorFlow's gradient, and the result in the dtype of the logits.

    Parameters
    ----------
    onehot_labels : array of shape [..., classes]
        As there.
    logits : array of shape [..., classes]
        As there.
    weights : array or float, default 1.0
        As there.
    label_smoothing : float, default 0
        As there.
    scope : str, optional
        As there.
    loss_collection : object, default "losses"
        Ignored: there are no collections.
    reduction : str, default Reduction.SUM_BY_NONZERO_WEIGHTS
        As there.

    Returns
    -------
    array
        The loss, in nats.

    Notes
    -----
    The gradient to a row of logits is ``softmax(logits) - labels``, whatever the labels add up to.
    """
    options.reduction_key(reduction)
    options.scope_name("scope", scope)
    options.label_smoothing(label_smoothing)
    call = Call("logits", logits)
    labels = call.beside("onehot_labels", onehot_labels)
    shapes.token_logits(call.main.shape)
    rows = shapes.without(-1, call.main.shape)
    given = broadcasting.given(call, "weights", weights)
    given = broadcasting.check(given, rows, "logits without the class axis")
    with call.backend.scope(scope):
        losses = entropies.soft(
            call, labels, smoothing=label_smoothing, broadcasts=False, tf_gradient=True, stop_labels=True
        )
        return entropies.in_dtype_of_logits(call, call.guard(broadcasting.reduced(call, losses, given, reduction)))


def sparse_softmax_cross_entropy(
    labels: Array,
    logits: Array,
    weights: Array | float = 1.0,
    scope: str | None = None,
    loss_collection: Any = "losses",
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Array:
    """:func:`seqloss.sparse_softmax_cross_entropy` with the result in the dtype of the logits.

    Parameters
    ----------
    labels : array
        As there.
    logits : array of shape [..., classes]
        As there.
    weights : array or float, default 1.0
        As there.
    scope : str, optional
        As there.
    loss_collection : object, default "losses"
        Ignored: there are no collections.
    reduction : str, default Reduction.SUM_BY_NONZERO_WEIGHTS
        As there.

    Returns
    -------
    array
        The loss, in nats.
    """
    result = seqloss.sparse_softmax_cross_entropy(labels, logits, weights, scope, loss_collection, reduction)
    return results.like("logits", logits, result)


def sigmoid_cross_entropy(
    multi_class_labels: Array,
    logits: Array,
    weights: Array | float = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: Any = "losses",
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Array:
    """:func:`seqloss.sigmoid_cross_entropy` with the result in the dtype of the logits.

    Parameters
    ----------
    multi_class_labels : array of shape [...]
        As there.
    logits : array of shape [..., classes]
        As there.
    weights : array or float, default 1.0
        As there.
    label_smoothing : float, default 0
        As there.
    scope : str, optional
        As there.
    loss_collection : object, default "losses"
        Ignored: there are no collections.
    reduction : str, default Reduction.SUM_BY_NONZERO_WEIGHTS
        As there.

    Returns
    -------
    array
        The loss, in nats.
    """
    result = seqloss.sigmoid_cross_entropy(
        multi_class_labels, logits, weights, label_smoothing, scope, loss_collection, reduction
    )
    return results.like("logits", logits, result)
