"""Weighted cross entropy of independent classes."""

from typing import Any

from seqloss.core import options
from seqloss.core.call import Call
from seqloss.core.types import ArrayLike, Main, ReductionKey
from seqloss.losses import cross_entropies, weighting
from seqloss.weighted.losses import Reduction


def sigmoid_cross_entropy(
    multi_class_labels: ArrayLike,
    logits: Main,
    weights: ArrayLike = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: Any = "losses",
    reduction: ReductionKey = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Main:
    """Weighted and reduced cross entropy of independent classes.

    The losses of :func:`sigmoid_cross_entropy_with_logits`, with the weights and reductions of
    :func:`compute_weighted_loss`: by default ::

        sum(weights * nll) / count(weights != 0)

    Parameters
    ----------
    multi_class_labels : array of the shape of logits
        The probability of each class: 0, 1, or any number between. Any float, integer or bool dtype.
    logits : array of shape [...]
        The log odds of each class, bfloat16, float16, float32 or float64. Their framework is that of the call and of
        the result.
    weights : array or number, default 1.0
        The weight of each loss: a scalar, or an array of as many axes as the losses, [...], in which any size may be
        1. Any float, integer or bool dtype, any sign. What is smaller in magnitude than ``2**-126`` is 0.
    label_smoothing : float, default 0
        If it is above 0, labels become ``labels * (1 - label_smoothing) + label_smoothing / 2``. At most 1.
    scope : str, optional
        The name of these operations in the framework's profiler or graph viewer.
    loss_collection : object
        Ignored: there are no global collections. Collect losses in a list of your own, as in ``losses.append(loss)``.
    reduction : str, default ``Reduction.SUM_BY_NONZERO_WEIGHTS``
        A key of :class:`Reduction`.

    Returns
    -------
    array
        The loss, in nats: a scalar, or with ``Reduction.NONE`` an array of the shape of the losses; float64 for
        float64 logits, else float32.

    Raises
    ------
    ShapeError
        If multi_class_labels have another shape than logits, or weights cannot be broadcast to the losses.
    DTypeError
        If logits are not floats, or labels or weights not numbers.
    ArgumentTypeError
        If an array is None or no dense array, label_smoothing is not a number, or scope is not a string.
    OptionError
        If reduction is not a key of :class:`Reduction`, or label_smoothing is above 1.
    MixedBackendsError
        If the arrays are of several frameworks. NumPy arrays, lists and numbers go with any framework.
    DeviceError
        If PyTorch tensors are on several devices.

    See Also
    --------
    softmax_cross_entropy : For classes that exclude each other.

    Notes
    -----
    The gradient flows to logits, labels and weights, in their dtypes. For a weight of 0 it is 0 in the logits, whatever
    they hold. The weights change the denominator of ``Reduction.MEAN`` only.

    Under tracing all checks of structure run and raise the same errors. Sizes, and ranks, that are unknown in a
    TensorFlow graph are compared when it runs.

    References
    ----------
    ``tf.losses.sigmoid_cross_entropy`` of TensorFlow 1.15.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> logits = np.log([[4.0, 1.0], [0.25, 1.0]])
    >>> print(f"{seqloss.sigmoid_cross_entropy([[1, 0], [0, 1]], logits):.4f}")
    0.4581

    A weight for each row:

    >>> weights = [[1.0], [0.0]]
    >>> print(f"{seqloss.sigmoid_cross_entropy([[1, 0], [0, 1]], logits, weights):.4f}")
    0.4581
    """
    options.reduction_key(reduction)
    options.scope_name("scope", scope)
    options.label_smoothing(label_smoothing)
    call = Call("logits", logits)
    labels = call.beside("multi_class_labels", multi_class_labels)
    weights = weighting.check(weighting.argument(call, "weights", weights), call.main.shape, "logits")
    with call.backend.scope(scope):
        losses = cross_entropies.sigmoid(call, labels, smoothing=label_smoothing)
        return call.guard(weighting.reduced(call, losses, weights, reduction))
