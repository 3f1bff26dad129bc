"""The losses of lists with one array for each timestep, as TensorFlow's ``legacy_seq2seq`` had them."""

from collections.abc import Callable, Sequence
from typing import Any

from seqloss.core import options
from seqloss.core.protocol import Array
from seqloss.core.types import ArrayLike, Main
from seqloss.losses import time_lists

_SMALL = 1e-12
"""The number that the old functions add to the sum of the weights of a sequence."""


def sequence_loss_by_example(
    logits: Sequence[Main],
    targets: Sequence[ArrayLike],
    weights: Sequence[ArrayLike],
    average_across_timesteps: bool = True,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Main:
    """Weighted cross entropy of each sequence of a batch, from lists with one array for each timestep.

    With the token losses ``nll[t, b] = log(sum_j exp(logits[t][b, j])) - logits[t][b, targets[t][b]]``, in nats, and
    the default flag, the result is ::

        loss[b] = sum_t(weights[t][b] * nll[t, b]) / (sum_t(weights[t][b]) + 1e-12)

    A token of weight 0 adds exactly 0 to the loss and to the gradient of the logits, whatever it holds: NaN, infinities
    or label -100.

    Parameters
    ----------
    logits : list or tuple of arrays of shape [batch, classes]
        Unnormalised log probabilities, one array for each timestep, all of one shape and dtype: bfloat16, float16,
        float32 or float64; at least one timestep and one class. The framework of the first decides that of the call.
    targets : list or tuple of arrays with batch entries
        Class ids of any signed or unsigned integer dtype, in [0, classes) where the weight is not 0. Any shape with
        one entry for each sequence is legal: [batch], [batch, 1], or [] for a single sequence.
    weights : list or tuple of arrays of shape [batch], or of numbers
        The weight of each token, of any float, integer or bool dtype; any sign. A number holds for all sequences of
        its timestep. A weight that is smaller in magnitude than ``2**-126`` after the cast to the dtype of the loss
        is 0.
    average_across_timesteps : bool, default True
        Divide the weighted sum of each sequence by the sum of its weights, plus 1e-12. False leaves the weighted sum.
    softmax_loss_function : callable, optional
        Replaces the cross entropy. It is called once for each timestep, as ``f(labels=..., logits=...)``
        with the targets in the shape that they were given in and logits [batch, classes], and must return one loss per
        sequence, of the shape [batch] and a float dtype, which is cast to the dtype of the loss. At tokens of weight
        0 it receives label 0, and zeros in place of a row of logits that is not finite. Its labels may have any value.
    name : str, optional
        The name of these operations in the framework's profiler or graph viewer. NumPy ignores it.

    Returns
    -------
    array of shape [batch]
        The losses, in nats: float64 for float64 logits, else float32.

    Raises
    ------
    ShapeError
        If the lists are empty or differ in length, if an array has the wrong rank or size (nothing is broadcast but a
        single number), if there are no classes, or if the ``softmax_loss_function`` returns another shape than
        [batch].
    DTypeError
        If logits are not floats or not of one dtype, targets not integers, or weights not numbers.
    ArgumentTypeError
        If an argument is not a list or tuple of dense arrays, or the flag is not a bool.
    LabelError
        If targets and weights can be read without waiting for an accelerator and a token of non-zero weight has a
        label outside [0, classes).
    MixedBackendsError
        If the arrays are of several frameworks. NumPy arrays, lists and numbers go with any framework.
    DeviceError
        If PyTorch tensors are on several devices.

    See Also
    --------
    sequence_loss : The loss of arrays [batch, time, ...], which has no 1e-12.

    Notes
    -----
    The 1e-12 belongs to the formula that this function keeps. A sequence whose weights are all 0 has the loss 0, but
    the gradient with respect to these weights is ``1e12 * nll``. Weights that cancel give a loss of the order of 1e12.
    Weights of the order of 1e-12 give a loss that is visibly too small. :func:`sequence_loss` has none of this.

    Gradients flow to logits and weights, in the dtype of the argument, and never to targets. Forward-mode
    differentiation with respect to the logits is refused by PyTorch and JAX.

    Under tracing all checks of structure run and raise the same errors. Labels without values are not checked: a token
    of non-zero weight with a label outside [0, classes) has a loss of NaN and a NaN row in the gradient. Sizes that are
    unknown in a TensorFlow graph are compared when it runs.

    Small steps of logits are copied into one array, because a single operation on them is quicker to run and to
    compile than one for each timestep. Steps with 2**18 logits or more are not.

    References
    ----------
    ``tf.contrib.legacy_seq2seq.sequence_loss_by_example`` of TensorFlow 1.15.

    Examples
    --------
    Two sequences with the lengths 2 and 1:

    >>> import numpy as np
    >>> import seqloss
    >>> logits = [np.log([[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]]), np.log([[1.0, 1.0, 2.0], [1.0, 1.0, 1.0]])]
    >>> targets = [np.array([0, 2]), np.array([2, -100])]
    >>> weights = [1.0, np.array([1.0, 0.0])]
    >>> print(seqloss.sequence_loss_by_example(logits, targets, weights).round(4))
    [0.4581 0.6931]
    """
    _check(softmax_loss_function, name, average_across_timesteps=average_across_timesteps)
    steps = time_lists.steps(logits, targets, weights, labels_are_classes=softmax_loss_function is None)
    with steps.call.backend.scope(name):
        return steps.call.guard(_by_example(steps, average_across_timesteps, softmax_loss_function))


def sequence_loss(
    logits: Sequence[Main],
    targets: Sequence[ArrayLike],
    weights: Sequence[ArrayLike],
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Main:
    """Weighted cross entropy of a batch of sequences, from lists with one array for each timestep.

    With the losses of :func:`seqloss.sequence_loss_by_example`, the result with the default flags is ::

        loss = sum_b(loss_by_example[b]) / batch

    Every sequence counts in ``batch``, one whose weights are all 0 included: a mean of means, not the mean over the
    tokens that :func:`seqloss.sequence_loss` gives.

    Parameters
    ----------
    logits : list or tuple of arrays of shape [batch, classes]
        As in :func:`seqloss.sequence_loss_by_example`.
    targets : list or tuple of arrays with batch entries
        As in :func:`seqloss.sequence_loss_by_example`.
    weights : list or tuple of arrays of shape [batch], or of numbers
        As in :func:`seqloss.sequence_loss_by_example`.
    average_across_timesteps : bool, default True
        Divide the weighted sum of each sequence by the sum of its weights, plus 1e-12.
    average_across_batch : bool, default True
        Divide the sum over the batch by the number of sequences.
    softmax_loss_function : callable, optional
        As in :func:`seqloss.sequence_loss_by_example`.
    name : str, optional
        As in :func:`seqloss.sequence_loss_by_example`.

    Returns
    -------
    array of shape []
        The loss, in nats: float64 for float64 logits, else float32. That of an empty batch is 0.

    Raises
    ------
    SeqlossError
        What :func:`seqloss.sequence_loss_by_example` raises.

    See Also
    --------
    seqloss.sequence_loss_by_example : One loss for each sequence.
    seqloss.sequence_loss : The loss of arrays [batch, time, ...].

    Notes
    -----
    Gradients, and what holds under tracing, are those of :func:`seqloss.sequence_loss_by_example`.

    References
    ----------
    ``tf.contrib.legacy_seq2seq.sequence_loss`` of TensorFlow 1.15.

    Examples
    --------
    >>> import numpy as np
    >>> from seqloss import legacy
    >>> logits = [np.log([[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]]), np.log([[1.0, 1.0, 2.0], [1.0, 1.0, 1.0]])]
    >>> targets = [np.array([0, 2]), np.array([2, -100])]
    >>> weights = [1.0, np.array([1.0, 0.0])]
    >>> print(f"{legacy.sequence_loss(logits, targets, weights):.4f}")
    0.5756
    """
    _check(
        softmax_loss_function,
        name,
        average_across_timesteps=average_across_timesteps,
        average_across_batch=average_across_batch,
    )
    steps = time_lists.steps(logits, targets, weights, labels_are_classes=softmax_loss_function is None)
    backend = steps.call.backend
    with backend.scope(name):
        losses = _by_example(steps, average_across_timesteps, softmax_loss_function)
        loss = backend.sum(losses, axis=(0,))
        if average_across_batch:
            batch = backend.count_nonzero(backend.ones_like(losses, dtype="bool"), axis=(0,))
            # An empty batch has the sum 0, which stays.
            loss = loss / backend.where(backend.equal(batch, 0), 1.0, backend.astype(batch, backend.dtype(loss)))
        return steps.call.guard(loss)


def _check(function: Any, name: Any, **flags: Any) -> None:
    for flag, value in flags.items():
        options.flag(flag, value)
    options.loss_options(function, name, None)


def _by_example(
    steps: time_lists.Steps, average_across_timesteps: bool, function: Callable[..., Array] | None
) -> Array:
    backend, weights = steps.call.backend, steps.weights
    losses = time_lists.token_losses(steps, function)
    total = backend.sum(losses * weights, axis=(0,))
    return total / (backend.sum(weights, axis=(0,)) + _SMALL) if average_across_timesteps else total
