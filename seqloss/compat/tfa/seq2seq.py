"""``tfa.seq2seq``: the loss of a batch of sequences, as a function and as a class."""

from collections.abc import Callable
from typing import Any

import seqloss
from seqloss.compat import derived, loss_class, results, soft_sequence
from seqloss.core.call import Call
from seqloss.core.protocol import Array

__all__ = ["SequenceLoss", "sequence_loss"]


@derived.documented_by(seqloss.sequence_loss)
def sequence_loss(
    logits: Array,
    targets: Array,
    weights: Array,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    softmax_loss_function: Callable[..., Array] | None = None,
    name: str | None = None,
) -> Array:
    """As :func:`seqloss.sequence_loss`, but targets may be a distribution for each token, and weights are required.

    Parameters
    ----------
    targets : array of shape [batch, time] or [batch, time, classes]
        Class ids of any integer dtype; or one-hot or soft labels of any float, integer or bool dtype and any sum.
    weights : array of shape [batch, time]
        The weight of each token, of any float, integer or bool dtype.
    softmax_loss_function : callable, optional
        As in :func:`seqloss.sequence_loss`. With targets of three axes its labels are [batch * time, classes].

    Returns
    -------
    array
        The loss, in nats, in the dtype of logits. It is computed in float32 for logits in half precision.

    Raises
    ------
    ArgumentTypeError
        If weights is None.
    SeqlossError
        Also what :func:`seqloss.sequence_loss` raises.

    Notes
    -----
    With targets y of three axes the token losses are ::

        nll[b, t] = sum_j y[b, t, j] * (log(sum_k exp(logits[b, t, k])) - logits[b, t, j])

    Gradients flow to logits and weights, and to targets of three axes. That of the logits is
    ``softmax(logits) - targets``, whatever the targets of a token add up to, as in TensorFlow; it is the derivative of
    the loss only where they add up to 1.

    Reductions, and what holds under tracing, are those of :func:`seqloss.sequence_loss`. Targets of unknown rank are
    taken for class ids.

    References
    ----------
    ``tfa.seq2seq.sequence_loss`` of TensorFlow Addons 0.23.

    Examples
    --------
    >>> import numpy as np
    >>> from seqloss.compat import tfa
    >>> logits = np.log([[[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]]])
    >>> weights = np.ones((1, 2))
    >>> print(f"{tfa.seq2seq.sequence_loss(logits, np.array([[0, 2]]), weights):.4f}")
    0.4581
    >>> one_hot = np.array([[[1, 0, 0], [0, 0, 1]]])
    >>> print(f"{tfa.seq2seq.sequence_loss(logits, one_hot, weights):.4f}")
    0.4581
    """
    results.required(weights, "tfa.seq2seq.sequence_loss")
    flags = (average_across_timesteps, average_across_batch, sum_over_timesteps, sum_over_batch)
    return _loss(logits, targets, weights, *flags, softmax_loss_function, name)


def _loss(logits: Array, targets: Array, weights: Array | None, *options: Any) -> Array:
    call = Call("logits", logits)
    given = call.beside("targets", targets)
    if given.shape is None or len(given.shape) != 3:
        result = seqloss.sequence_loss(logits, targets, weights, *options)
    else:
        *flags, function, name = options
        result = soft_sequence.sequence_loss(call, given, weights, tuple(flags), function, name)
    return results.like("logits", logits, result)


class SequenceLoss(loss_class.SequenceLoss):
    """:func:`sequence_loss` as an object with fixed flags: ``SequenceLoss(...)(y_true, y_pred, sample_weight=None)``.

    Where Keras is loaded when the object is made, it is a ``keras.losses.Loss``, so that ``model.compile`` and
    ``model.fit`` pass it the ``sample_weight`` [batch, time] untouched and leave its result as it is. Tokens that a
    layer of the model has masked get the weight 0.

    Parameters
    ----------
    average_across_timesteps : bool, default False
        As in :func:`seqloss.sequence_loss`.
    average_across_batch : bool, default False
        As in :func:`seqloss.sequence_loss`.
    sum_over_timesteps : bool, default True
        As in :func:`seqloss.sequence_loss`. Set it to False with an average.
    sum_over_batch : bool, default True
        As in :func:`seqloss.sequence_loss`. Set it to False with an average.
    softmax_loss_function : callable, optional
        As in :func:`sequence_loss`.
    name : str, optional
        As in :func:`sequence_loss`.

    Raises
    ------
    ArgumentTypeError
        If a flag is not a bool.

    Notes
    -----
    The call takes the targets first, unlike the function. Flags that contradict each other are refused by the call.

    References
    ----------
    ``tfa.seq2seq.SequenceLoss`` of TensorFlow Addons 0.23, which had no weights by default and lost its flags in
    ``get_config``.

    Examples
    --------
    >>> import numpy as np
    >>> from seqloss.compat import tfa
    >>> logits = np.log([[[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]]])
    >>> loss = tfa.seq2seq.SequenceLoss()
    >>> print(f"{loss(np.array([[0, 2]]), logits, np.array([[1.0, 0.0]])):.4f}")
    0.2231
    """

    _loss = staticmethod(_loss)


loss_class.register(SequenceLoss)
