"""``tf.contrib.legacy_seq2seq`` of TensorFlow 1.15: the losses of lists with one array for each timestep."""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from seqloss import legacy
from seqloss.compat import results
from seqloss.core import options
from seqloss.core.errors import ArgumentTypeError, OptionError, ShapeError
from seqloss.core.protocol import Array

__all__ = ["model_with_buckets", "sequence_loss", "sequence_loss_by_example"]


_like_logits = results.in_dtype_of("logits[0]", __name__)

sequence_loss = _like_logits(legacy.sequence_loss)
sequence_loss_by_example = _like_logits(legacy.sequence_loss_by_example)


def model_with_buckets(
    encoder_inputs: Sequence[Any],
    decoder_inputs: Sequence[Any],
    targets: Sequence[Array],
    weights: Sequence[Array],
    buckets: Sequence[tuple[int, int]],
    seq2seq: Callable[[Sequence[Any], Sequence[Any]], tuple[Sequence[Array], Any]],
    softmax_loss_function: Callable[..., Array] | None = None,
    per_example_loss: bool = False,
    name: str | None = None,
) -> tuple[list[Sequence[Array]], list[Array]]:
    """The outputs and the loss of a model for each of several lengths.

    For each bucket (source, target) it calls ``seq2seq(encoder_inputs[:source], decoder_inputs[:target])`` and
    computes the loss of the first of the two results, a list of logits, against ``targets[:target]`` and
    ``weights[:target]``.

    Parameters
    ----------
    encoder_inputs : list
        One input for each timestep, at least as many as the longest source.
    decoder_inputs : list
        One input for each timestep, at least as many as the longest target.
    targets : list of arrays
        As in :func:`sequence_loss`; at least as many as the longest target.
    weights : list of arrays
        As in :func:`sequence_loss`; at least as many as the longest target.
    buckets : list of pairs of int
        The number of source and target timesteps of each bucket.
    seq2seq : callable
        The model: from two lists of inputs to the list of logits, and anything else.
    softmax_loss_function : callable, optional
        As in :func:`sequence_loss`.
    per_example_loss : bool, default False
        Whether losses are those of :func:`sequence_loss_by_example`.
    name : str, optional
        As in :func:`sequence_loss`.

    Returns
    -------
    outputs : list
        The logits of each bucket.
    losses : list
        The loss of each bucket, in nats.

    Raises
    ------
    ShapeError
        If a list is shorter than a bucket (TensorFlow looked at the last bucket alone, and not at decoder_inputs), or
        a bucket is no pair.
    ArgumentTypeError
        If a list is none, a size in a bucket is not an integer, or seq2seq is no function that returns a pair.
    OptionError
        If a size in a bucket is negative.
    SeqlossError
        Also what :func:`sequence_loss` raises.

    References
    ----------
    ``tf.contrib.legacy_seq2seq.model_with_buckets`` of TensorFlow 1.15.

    Examples
    --------
    >>> import numpy as np
    >>> from seqloss.compat import tf1
    >>> def model(encoder_inputs, decoder_inputs):
    ...     return [np.zeros((2, 8))] * len(decoder_inputs), None
    >>> inputs, targets, weights = [np.ones(2)] * 4, [np.array([1, 2])] * 4, [1.0] * 4
    >>> outputs, losses = tf1.contrib.legacy_seq2seq.model_with_buckets(
    ...     inputs, inputs, targets, weights, [(2, 3), (4, 4)], model
    ... )
    >>> print([len(bucket) for bucket in outputs], [f"{loss:.4f}" for loss in losses])
    [3, 4] ['2.0794', '2.0794']
    """
    options.flag("per_example_loss", per_example_loss)
    options.loss_options(softmax_loss_function, name, None)
    pairs = _pairs(buckets)
    longest = [max((pair[side] for pair in pairs), default=0) for side in (0, 1)]
    for list_name, given, needed in (
        ("encoder_inputs", encoder_inputs, longest[0]),
        ("targets", targets, longest[1]),
        ("weights", weights, longest[1]),
        ("decoder_inputs", decoder_inputs, longest[1]),
    ):
        if _length(list_name, given) < needed:
            raise ShapeError(
                f"{list_name} has {len(given)} timesteps, but a bucket needs {needed}; pad it to the longest bucket"
            )
    if not callable(seq2seq):
        raise ArgumentTypeError(
            f"seq2seq must be callable with (encoder_inputs, decoder_inputs), got {seq2seq!r}; pass the model"
        )
    loss = sequence_loss_by_example if per_example_loss else sequence_loss
    outputs, losses = [], []
    for source, target in pairs:
        logits = _outputs(seq2seq(encoder_inputs[:source], decoder_inputs[:target]))
        outputs.append(logits)
        losses.append(
            loss(
                logits,
                targets[:target],
                weights[:target],
                softmax_loss_function=softmax_loss_function,
                name=name,
            )
        )
    return outputs, losses


def _pairs(buckets: Any) -> list[tuple[int, int]]:
    """The buckets, each a pair of sizes that a slice can end at."""
    expected = "buckets must be a list of pairs (source, target) of integers"
    try:
        pairs = [tuple(bucket) for bucket in buckets]
    except TypeError as error:
        raise ArgumentTypeError(f"{expected}, got {buckets!r}; pass [(source, target)] for a single one") from error
    for pair in pairs:
        if len(pair) != 2:
            raise ShapeError(f"{expected}, got one with {len(pair)} entries, {pair!r}; pass (source, target)")
        for size in pair:
            if isinstance(size, bool) or not isinstance(size, (int, Integral)):
                raise ArgumentTypeError(f"{expected}, got the size {size!r} in {pair!r}; convert it with int(...)")
            if size < 0:
                raise OptionError(f"{expected}, got the negative size {size} in {pair!r}; a size counts timesteps")
    return pairs


def _length(name: str, given: Any) -> int:
    try:
        if not isinstance(given, (str, bytes, dict, set)):
            return len(given)
    except TypeError:  # a number, None, or an array without axes or without a size
        pass
    raise ArgumentTypeError(f"{name} must be a list with one entry for each timestep, got {given!r}")


def _outputs(results: Any) -> Any:
    """The logits of what a model returned."""
    if not isinstance(results, (list, tuple)):
        raise ArgumentTypeError(
            f"seq2seq must return the pair (logits, state), got a {type(results).__qualname__}; return (logits, None)"
        )
    if len(results) != 2:
        raise ShapeError(
            f"seq2seq must return the pair (logits, state), got {len(results)} results; return (logits, None)"
        )
    return results[0]
