"""``tf.contrib.seq2seq`` of TensorFlow 1.15: the loss of a batch of sequences."""

from collections.abc import Callable
from typing import Any

import seqloss
from seqloss.compat import derived, loss_class, results
from seqloss.core import options
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
    """As :func:`seqloss.sequence_loss`, with the rules of TensorFlow 1.15 for weights, flags and dtypes.

    Parameters
    ----------
    weights : array of shape [batch, time]
        As in :func:`seqloss.sequence_loss`, but required.
    sum_over_timesteps : bool, default False
        As in :func:`seqloss.sequence_loss`, but ignored where only the batch is averaged.
    sum_over_batch : bool, default False
        As in :func:`seqloss.sequence_loss`, but ignored where only the timesteps are averaged.

    Raises
    ------
    ArgumentTypeError
        If weights is None, or a flag is not a bool. (The old function took any number for a flag.)
    SeqlossError
        Also what :func:`seqloss.sequence_loss` raises.

    Notes
    -----
    Reductions, gradients, and what holds under tracing, are those of :func:`seqloss.sequence_loss`.

    References
    ----------
    ``tf.contrib.seq2seq.sequence_loss`` of TensorFlow 1.15.
    """
    results.required(weights, "tf.contrib.seq2seq.sequence_loss")
    flags = (average_across_timesteps, average_across_batch, sum_over_timesteps, sum_over_batch)
    return _loss(logits, targets, weights, *flags, softmax_loss_function, name)


def _loss(logits: Array, targets: Array, weights: Array | None, *arguments: Any) -> Array:
    *flags, function, name = arguments
    for flag, value in zip(loss_class.FLAGS, flags, strict=True):
        options.flag(flag, value)
    average_time, average_batch, sum_time, sum_batch = flags
    contradicts = (average_time and sum_time) or (average_batch and sum_batch)
    if (average_time or average_batch) and not contradicts:
        # An average over one axis silently overrules the sum over the other one.
        sum_time = sum_batch = False
    result = seqloss.sequence_loss(
        logits, targets, weights, average_time, average_batch, sum_time, sum_batch, function, name
    )
    return results.like("logits", logits, result)


class SequenceLoss(loss_class.SequenceLoss):
    """:func:`sequence_loss` as an object with fixed flags: ``SequenceLoss(...)(y_true, y_pred, sample_weight=None)``.

    TensorFlow 1.15 had it as ``tensorflow.contrib.seq2seq.python.ops.loss.SequenceLoss``. It is the same as
    :class:`seqloss.compat.tfa.seq2seq.SequenceLoss`, but for targets, which are class ids here, and for flags, where
    an average of one axis overrules the sum over the other one.

    Parameters
    ----------
    average_across_timesteps : bool, default False
        As in :func:`seqloss.sequence_loss`.
    average_across_batch : bool, default False
        As in :func:`seqloss.sequence_loss`.
    sum_over_timesteps : bool, default True
        As in :func:`sequence_loss`.
    sum_over_batch : bool, default True
        As in :func:`sequence_loss`.
    softmax_loss_function : callable, optional
        As in :func:`seqloss.sequence_loss`.
    name : str, optional
        As in :func:`seqloss.sequence_loss`.
    """

    _loss = staticmethod(_loss)


loss_class.register(SequenceLoss)
