"""Weighted cross entropy against probabilities."""

from typing import Any

from seqloss.core import options, shapes
from seqloss.core.call import Call
from seqloss.core.types import ArrayLike, Main, ReductionKey
from seqloss.losses import cross_entropies, weighting
from seqloss.weighted.losses import Reduction


def softmax_cross_entropy(
    onehot_labels: ArrayLike,
    logits: Main,
    weights: ArrayLike = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: Any = "losses",
    reduction: ReductionKey = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Main:
    """Weighted and reduced cross entropy of logits against a probability for each class.

    The losses of :func:`softmax_cross_entropy_with_logits`, with the weights and reductions of
    :func:`compute_weighted_loss`: by default ::

        sum(weights * nll) / count(weights != 0)

    Parameters
    ----------
    onehot_labels : array of the shape of logits
        The target of each class: one-hot rows, probabilities, or other numbers. Any float, integer or bool
        dtype. Nothing is broadcast.
    logits : array of shape [..., classes]
        Unnormalised log probabilities, bfloat16, float16, float32 or float64, with at least one class. Their framework
        is that of the call and of the result.
    weights : array or number, default 1.0
        The weight of each loss: a scalar, or an array of as many axes as the losses, [...], in which any size may be
        1. Any float, integer or bool dtype, any sign. What is smaller in magnitude than ``2**-126`` is 0.
    label_smoothing : float, default 0
        If it is above 0, labels become ``labels * (1 - label_smoothing) + label_smoothing / classes``. At most 1.
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
        If onehot_labels have another shape than logits, there are no classes, or weights cannot be broadcast
        to the losses.
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
    sparse_softmax_cross_entropy : Against class ids.
    sigmoid_cross_entropy : For classes that do not exclude each other.

    Notes
    -----
    The gradient flows to logits and weights, in their dtypes, and never to the labels. For a weight of 0 it is 0 in
    the logits, whatever they hold. The weights change the denominator of ``Reduction.MEAN`` only.

    Under tracing all checks of structure run and raise the same errors. Sizes, and ranks, that are unknown in a
    TensorFlow graph are compared when it runs.

    References
    ----------
    ``tf.losses.softmax_cross_entropy`` of TensorFlow 1.15.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> logits = np.log([[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]])
    >>> labels = [[1, 0, 0], [0, 0, 1]]
    >>> print(f"{seqloss.softmax_cross_entropy(labels, logits):.4f}")
    0.4581
    >>> print(f"{seqloss.softmax_cross_entropy(labels, logits, [1, 0]):.4f}")
    0.2231
    >>> print(f"{seqloss.softmax_cross_entropy(labels, logits, label_smoothing=0.3):.4f}")
    0.7354
    """
    options.reduction_key(reduction)
    options.scope_name("scope", scope)
    options.label_smoothing(label_smoothing)
    call = Call("logits", logits)
    labels = call.beside("onehot_labels", onehot_labels)
    shapes.token_logits(call.main.shape)
    weights = weighting.check(
        weighting.argument(call, "weights", weights),
        shapes.without(-1, call.main.shape),
        "logits without the class axis",
    )
    with call.backend.scope(scope):
        losses = cross_entropies.soft(call, labels, smoothing=label_smoothing, broadcasts=False, stop_labels=True)
        return call.guard(weighting.reduced(call, losses, weights, reduction))
