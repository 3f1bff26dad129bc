"""``tf.losses`` of TensorFlow 1.15: weighted losses with a key for the reduction."""

from typing import Any

import seqloss
from seqloss.compat import derived, results
from seqloss.core import options, shapes
from seqloss.core.call import Call
from seqloss.core.protocol import Array
from seqloss.core.types import ReductionKey
from seqloss.losses import cross_entropies, weighting
from seqloss.weighted import Reduction

__all__ = [
    "Reduction",
    "compute_weighted_loss",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]


_like_losses = results.in_dtype_of("losses", __name__)
_like_logits = results.in_dtype_of("logits", __name__)

compute_weighted_loss = _like_losses(seqloss.compute_weighted_loss)
sigmoid_cross_entropy = _like_logits(seqloss.sigmoid_cross_entropy)
sparse_softmax_cross_entropy = _like_logits(seqloss.sparse_softmax_cross_entropy)


@derived.documented_by(seqloss.softmax_cross_entropy)
def softmax_cross_entropy(
    onehot_labels: Array,
    logits: Array,
    weights: Array | float = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: Any = "losses",
    reduction: ReductionKey = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Array:
    """As :func:`seqloss.softmax_cross_entropy`, with TensorFlow's gradient, and the result in the dtype of logits.

    Notes
    -----
    The gradient with respect to a row of logits is ``softmax(logits) - labels``, whatever the labels add up to. All
    others, and what holds under tracing, are those of :func:`seqloss.softmax_cross_entropy`.
    """
    options.reduction_key(reduction)
    options.scope_name("scope", scope)
    options.label_smoothing(label_smoothing)
    call = Call("logits", logits)
    labels = call.beside("onehot_labels", onehot_labels)
    shapes.token_logits(call.main.shape)
    rows = shapes.without(-1, call.main.shape)
    weights = weighting.argument(call, "weights", weights)
    weights = weighting.check(weights, rows, "logits without the class axis")
    with call.backend.scope(scope):
        losses = cross_entropies.soft(
            call, labels, smoothing=label_smoothing, broadcasts=False, tf_gradient=True, stop_labels=True
        )
        loss = call.guard(weighting.reduced(call, losses, weights, reduction))
        return cross_entropies.in_dtype_of_logits(call, loss)
