"""The cross entropies of ``tf.nn``: single losses from logits, without weights or reductions."""

from seqloss.core import options
from seqloss.core.call import Call
from seqloss.core.types import ArrayLike, Main
from seqloss.losses import cross_entropies, weighting


def sparse_softmax_cross_entropy_with_logits(labels: ArrayLike, logits: Main, name: str | None = None) -> Main:
    """Cross entropy of logits against class ids.

    For the logits z of a token and its label y the loss, in nats, is ::

        nll = log(sum_j exp(z_j)) - z_y

    evaluated in a form that keeps full relative accuracy however confident the model is.

    Parameters
    ----------
    labels : array of shape [...]
        Class ids of any signed or unsigned integer dtype, in [0, classes).
    logits : array of shape [..., classes]
        Unnormalised log probabilities, bfloat16, float16, float32 or float64, with any number of leading axes and at
        least one class. Their framework is that of the call and of the result.
    name : str, optional
        The name of these operations in the framework's profiler or graph viewer.

    Returns
    -------
    array of shape [...]
        The losses, in nats: float64 for float64 logits, else float32.

    Raises
    ------
    ShapeError
        If labels have another shape than logits without the class axis, or if there are no classes.
    DTypeError
        If logits are not floats or labels not integers.
    ArgumentTypeError
        If an argument is None or no dense array, or name is not a string.
    LabelError
        If labels can be read without waiting for an accelerator and one is outside [0, classes).
    MixedBackendsError
        If the arrays are of several frameworks. NumPy arrays, lists and numbers go with any framework.
    DeviceError
        If PyTorch tensors are on several devices.

    See Also
    --------
    token_loss : The same with the logits first, and with a mask.
    softmax_cross_entropy_with_logits : Against probabilities in place of class ids.

    Notes
    -----
    The gradient flows to the logits only, in their dtype: ``softmax(z)_j - (j == y)``.

    Under tracing all checks of structure run and raise the same errors; a label without a value that is outside
    [0, classes) has a loss of NaN and a NaN row in the gradient. Sizes, and ranks, that are unknown in a TensorFlow
    graph are compared when it runs.

    References
    ----------
    ``tf.nn.sparse_softmax_cross_entropy_with_logits`` of TensorFlow.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> logits = np.log([[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]])
    >>> print(seqloss.sparse_softmax_cross_entropy_with_logits(labels=[0, 2], logits=logits).round(4))
    [0.2231 0.6931]
    """
    options.scope_name("name", name)
    call = Call("logits", logits)
    labels = call.beside("labels", labels)
    with call.backend.scope(name):
        return call.guard(cross_entropies.sparse(call, labels))


def softmax_cross_entropy_with_logits(labels: ArrayLike, logits: Main, axis: int = -1, name: str | None = None) -> Main:
    """Cross entropy of logits against a probability for each class.

    For the logits z of a token and its labels y the loss, in nats, is ::

        nll = sum_j y_j (log(sum_i exp(z_i)) - z_j)

    where a class with the label 0 adds nothing, even if its logit is -inf. No term cancels another unless labels are
    negative, so confident tokens keep full relative accuracy.

    Parameters
    ----------
    labels : array of the shape of logits
        The target of each class: probabilities, one-hot rows, or any other numbers; they need not add up to 1.
        Any float, integer or bool dtype. A size of 1 is broadcast to that of the logits; the ranks must be equal.
    logits : array of shape [..., classes, ...]
        Unnormalised log probabilities, bfloat16, float16, float32 or float64, with at least one class. Their framework
        is that of the call and of the result.
    axis : int, default -1
        The axis of the classes; negative ones count from the end.
    name : str, optional
        The name of these operations in the framework's profiler or graph viewer.

    Returns
    -------
    array
        The losses, in nats, of the shape of logits without the class axis: float64 for float64 logits, else float32.

    Raises
    ------
    ShapeError
        If a size of labels is neither that of logits nor 1, if there is no such axis,
        if there are no classes, or if the rank is unknown in a TensorFlow graph and axis is not -1.
    DTypeError
        If logits are not floats or labels not numbers.
    ArgumentTypeError
        If an argument is None or no dense array, axis is not an integer, or name is not a string.
    MixedBackendsError
        If the arrays are of several frameworks. NumPy arrays, lists and numbers go with any framework.
    DeviceError
        If PyTorch tensors are on several devices.

    See Also
    --------
    sparse_softmax_cross_entropy_with_logits : Against class ids.
    sigmoid_cross_entropy_with_logits : For classes that do not exclude each other.

    Notes
    -----
    The gradient with respect to the logits is ``sum(y) softmax(z)_j - y_j``, with respect to the labels ``log(sum_i
    exp(z_i)) - z_j``; each has the dtype of its argument. For labels that do not add up to 1 TensorFlow computes
    ``softmax(z)_j - y_j``, which is not the derivative of the loss.

    Under tracing all checks run and raise the same errors. Sizes that are unknown in a TensorFlow graph are compared
    when it runs.

    References
    ----------
    ``tf.nn.softmax_cross_entropy_with_logits`` of TensorFlow 2, ``tf.nn.softmax_cross_entropy_with_logits_v2`` of 1.15.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> logits = np.log([[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]])
    >>> labels = [[1, 0, 0], [0.5, 0, 0.5]]
    >>> print(seqloss.softmax_cross_entropy_with_logits(labels=labels, logits=logits).round(4))
    [0.2231 1.0397]

    Classes along the first axis:

    >>> columns = {"labels": np.transpose(labels), "logits": logits.T}
    >>> print(seqloss.softmax_cross_entropy_with_logits(**columns, axis=0).round(4))
    [0.2231 1.0397]
    """
    options.scope_name("name", name)
    options.class_axis(axis)
    call = Call("logits", logits)
    labels = call.beside("labels", labels)
    with call.backend.scope(name):
        return call.guard(cross_entropies.soft(call, labels, axis))


def sigmoid_cross_entropy_with_logits(labels: ArrayLike, logits: Main, name: str | None = None) -> Main:
    """Cross entropy of independent classes, each with its own logit.

    For a logit x and its label z the loss, in nats, is ::

        nll = -z log(sigmoid(x)) - (1 - z) log(1 - sigmoid(x))

    where a factor of 0 removes its logarithm, even if that is infinite. Nothing cancels for labels in [0, 1], so
    confident predictions keep full relative accuracy.

    Parameters
    ----------
    labels : array of the shape of logits
        The probability of each class: 0, 1, or any number between (others are taken as the formula says). Any float,
        integer or bool dtype.
    logits : array of any shape
        The log odds of each class, bfloat16, float16, float32 or float64. Their framework is that of the call and of
        the result.
    name : str, optional
        The name of these operations in the framework's profiler or graph viewer.

    Returns
    -------
    array of the shape of logits
        The losses, in nats: float64 for float64 logits, else float32.

    Raises
    ------
    ShapeError
        If labels have another shape than logits; nothing is broadcast.
    DTypeError
        If logits are not floats or labels not numbers.
    ArgumentTypeError
        If an argument is None or no dense array, or name is not a string.
    MixedBackendsError
        If the arrays are of several frameworks. NumPy arrays, lists and numbers go with any framework.
    DeviceError
        If PyTorch tensors are on several devices.

    See Also
    --------
    weighted_cross_entropy_with_logits : With another weight for positive labels.
    softmax_cross_entropy_with_logits : For classes that exclude each other.

    Notes
    -----
    The gradient with respect to the logits is ``sigmoid(x) - z``, with respect to the labels ``-x``; each has the dtype
    of its argument.

    Under tracing all checks run and raise the same errors. Sizes, and ranks, that are unknown in a TensorFlow graph
    are compared when it runs.

    References
    ----------
    ``tf.nn.sigmoid_cross_entropy_with_logits`` of TensorFlow.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> logits = np.log([4.0, 1.0, 0.25])  # odds of 4 to 1, 1 to 1, 1 to 4
    >>> print(seqloss.sigmoid_cross_entropy_with_logits(labels=[1, 1, 1], logits=logits).round(4))
    [0.2231 0.6931 1.6094]
    """
    options.scope_name("name", name)
    call = Call("logits", logits)
    labels = call.beside("labels", labels)
    with call.backend.scope(name):
        return call.guard(cross_entropies.sigmoid(call, labels))


def weighted_cross_entropy_with_logits(
    labels: ArrayLike, logits: Main, pos_weight: ArrayLike, name: str | None = None
) -> Main:
    """Cross entropy of independent classes, in which positives count more or less than negatives.

    For a logit x, its label z and the weight q of positives the loss, in nats, is ::

        nll = -q z log(sigmoid(x)) - (1 - z) log(1 - sigmoid(x))

    With q above 1 missed positives cost more, which raises recall; with q below 1 false positives cost more, which
    raises precision.

    Parameters
    ----------
    labels : array of the shape of logits
        As in :func:`sigmoid_cross_entropy_with_logits`.
    logits : array of any shape
        As in :func:`sigmoid_cross_entropy_with_logits`.
    pos_weight : array or number
        The weight of positive labels: a scalar, or an array that is broadcast to the logits from the last axis on, as
        one of the shape [classes]. Any float, integer or bool dtype.
    name : str, optional
        The name of these operations in the framework's profiler or graph viewer.

    Returns
    -------
    array of the shape of logits
        The losses, in nats: float64 for float64 logits, else float32.

    Raises
    ------
    ShapeError
        If labels have another shape than logits, or pos_weight cannot be broadcast to it.
    DTypeError
        If logits are not floats, or labels or pos_weight not numbers.
    ArgumentTypeError
        If an argument is None or no dense array, or name is not a string.
    MixedBackendsError
        If the arrays are of several frameworks. NumPy arrays, lists and numbers go with any framework.
    DeviceError
        If PyTorch tensors are on several devices.

    See Also
    --------
    sigmoid_cross_entropy_with_logits : Without a weight.

    Notes
    -----
    The gradient with respect to the logits is ``(1 - z) sigmoid(x) - q z sigmoid(-x)``, with respect to the labels ``(q
    - 1) log(1 + exp(-x)) - x``, with respect to pos_weight ``z log(1 + exp(-x))``.

    Under tracing all checks run and raise the same errors. Sizes, and ranks, that are unknown in a TensorFlow graph
    are compared when it runs; where the rank of the logits is unknown, pos_weight must be a scalar or have that rank.

    References
    ----------
    ``tf.nn.weighted_cross_entropy_with_logits`` of TensorFlow.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> logits = np.log([4.0, 1.0, 0.25])
    >>> print(seqloss.weighted_cross_entropy_with_logits([1, 0, 1], logits, 2.0).round(4))
    [0.4463 0.6931 3.2189]
    """
    options.scope_name("name", name)
    call = Call("logits", logits)
    labels = call.beside("labels", labels)
    pos_weight = weighting.argument(call, "pos_weight", pos_weight)
    with call.backend.scope(name):
        return call.guard(cross_entropies.sigmoid(call, labels, pos_weight))
