"""Weighted cross entropy against class ids."""

from typing import Any

from seqloss.core import options, shapes
from seqloss.core.call import Call, see_order
from seqloss.core.types import ArrayLike, Main, ReductionKey
from seqloss.losses import cross_entropies, weighting
from seqloss.weighted.losses import Reduction


def sparse_softmax_cross_entropy(
    labels: ArrayLike,
    logits: Main,
    weights: ArrayLike = 1.0,
    scope: str | None = None,
    loss_collection: Any = "losses",
    reduction: ReductionKey = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Main:
    """Weighted and reduced cross entropy of logits against class ids.

    The losses of :func:`sparse_softmax_cross_entropy_with_logits`, with the weights and reductions of
    :func:`compute_weighted_loss`: by default ::

        sum(weights * nll) / count(weights != 0)

    Parameters
    ----------
    labels : array of shape [...] or [..., 1]
        Class ids of any signed or unsigned integer dtype, in [0, classes) where the weight is not 0.
    logits : array of shape [..., classes]
        Unnormalised log probabilities, bfloat16, float16, float32 or float64, with at least one class. Their framework
        is that of the call and of the result.
    weights : array or number, default 1.0
        The weight of each loss: a scalar, or an array of as many axes as the losses, [...], in which any size may be
        1, or with one more axis of size 1 at the end. Any float, integer or bool dtype, any sign. What is smaller in
        magnitude than ``2**-126`` is 0.
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
        If labels have another shape than logits without the class axis, there are no classes, or weights
        cannot be broadcast to the losses.
    DTypeError
        If logits are not floats, labels not integers, or weights not numbers.
    ArgumentTypeError
        If an array is None or no dense array, or scope is not a string.
    OptionError
        If reduction is not a key of :class:`Reduction`.
    LabelError
        If labels and weights can be read without waiting for an accelerator and a label whose weight is not 0 is
        outside [0, classes).
    MixedBackendsError
        If the arrays are of several frameworks. NumPy arrays, lists and numbers go with any framework.
    DeviceError
        If PyTorch tensors are on several devices.

    See Also
    --------
    softmax_cross_entropy : Against probabilities in place of class ids.
    sequence_loss : Other reductions of the same losses.

    Notes
    -----
    The gradient flows to logits and weights, in their dtypes. For a weight of 0 it is 0 in the logits, whatever they
    hold. The weights change the denominator of ``Reduction.MEAN`` only.

    Under tracing all checks of structure run and raise the same errors; a label without a value that is outside
    [0, classes) makes the loss NaN if its weight is not 0. Sizes, and ranks, that are unknown in a TensorFlow graph
    are compared when it runs; where the rank of logits or labels is unknown, no axis of size 1 is removed.

    References
    ----------
    ``tf.losses.sparse_softmax_cross_entropy`` of TensorFlow 1.15.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> logits = np.log([[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]])
    >>> print(f"{seqloss.sparse_softmax_cross_entropy([0, 2], logits):.4f}")
    0.4581
    >>> print(f"{seqloss.sparse_softmax_cross_entropy([0, -100], logits, [1, 0]):.4f}")
    0.2231
    """
    options.reduction_key(reduction)
    options.scope_name("scope", scope)
    call = Call("logits", logits)
    labels = call.beside("labels", labels)
    see_order(call.main, labels)
    shapes.token_logits(call.main.shape)
    labels, weights = weighting.squeezed(call, labels, weighting.argument(call, "weights", weights))
    classes = None if call.main.shape is None else call.main.shape[-1]
    weights = weighting.check(weights, labels.shape, "labels", classes)
    with call.backend.scope(scope):
        return call.guard(cross_entropies.weighted_sparse(call, labels, weights, reduction))
