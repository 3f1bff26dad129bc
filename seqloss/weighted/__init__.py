"""The losses of ``tf.losses``: a weight for each loss, and one reduction over all of them."""

from seqloss.weighted.losses import Reduction, compute_weighted_loss
from seqloss.weighted.sigmoid import sigmoid_cross_entropy
from seqloss.weighted.softmax import softmax_cross_entropy
from seqloss.weighted.sparse import sparse_softmax_cross_entropy

__all__ = [
    "Reduction",
    "compute_weighted_loss",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]
