"""``seqloss.keras.SequenceLoss``."""

import sys
from typing import Any

import keras

import seqloss
from seqloss.core.errors import OptionError
from seqloss.core.objectives import MEANS
from seqloss.core.protocol import Array
from seqloss.keras import options
from seqloss.losses import masking
from seqloss.losses.settings import settings

_MEANS = ("mean", "sequence_mean")


class SequenceLoss(keras.losses.Loss):
    """:func:`seqloss.sequence_loss` as a loss of Keras: ``model.compile(loss=SequenceLoss(...))``.

    ``y_true`` are the targets [batch, time], ``y_pred`` the logits [batch, time, classes]. A token counts with its
    ``sample_weight``, and not at all where the mask that a layer of the model made is False::

        loss = sum(sample_weight * nll) / sum(sample_weight)                    over the tokens that the mask leaves

    Parameters
    ----------
    ignore_class : int or tuple of int, optional
        Keras's name of ``ignore_index``.
    name : str, default "sequence_loss"
        The name of the loss, and of its operations in a profiler or graph viewer.
    dtype : str or keras.DTypePolicy, optional
        What logits are cast to first, as by other losses of Keras. None leaves them as the model made them.
    reduction : {"mean", "sum", "none", "per_sequence", "sequence_mean"}, default "mean"
        How the losses of tokens are averaged; see the notes.

    Raises
    ------
    ArgumentTypeError
        If there is no such argument, or an option has the wrong type.
    OptionError
        If an option has no such value, or contradicts another one. The names of reductions are those of seqloss.
    SeqlossError
        When it is called, what :func:`seqloss.sequence_loss` raises.

    See Also
    --------
    Perplexity : The metric.

    Notes
    -----
    The loss is float32, in mixed precision too: half-precision logits are read as they are, and nothing else is
    rounded to half precision. It is float64 for float64 logits. Integer labels stay integers, which Keras casts to
    float32 for its own losses; labels that are floats already are read as integers.

    ``reduction="mean"`` divides by the weights of the tokens that count. Of Keras, ``"mean_with_sample_weight"`` is the
    same. Its default, ``"sum_over_batch_size"``, divides by the number of tokens that the mask leaves, whatever they
    weigh; without a mask, by the number of all. A ``sample_weight`` [batch] is the weight of each token of a
    sequence; Keras's own losses fail there, or spread it along the wrong axis where batch and time are equal.

    A loss of several numbers (``reduction="none"`` or ``"per_sequence"``) is for calls of your own: ``fit`` needs a
    single number. Under ``tf.distribute`` each replica takes its own mean and divides it by the number of replicas, as
    Keras does. That is a mean of means; ``reduction="sum"`` adds up all replicas.

    Gradients flow to logits, sample weights and soft targets. In a compiled step a bad label makes the loss NaN; with
    ``run_eagerly=True``, where labels can be read, it is a ``LabelError``.

    References
    ----------
    ``keras.losses.Loss`` of Keras 3.

    Examples
    --------
    .. code-block:: python

        import keras
        import numpy as np
        import seqloss

        tokens = np.array([[1, 2, 3], [4, 0, 0]])
        model = keras.Sequential([keras.layers.Embedding(5, 8, mask_zero=True), keras.layers.Dense(5)])
        loss = seqloss.keras.SequenceLoss(label_smoothing=0.1)
        model.compile(optimizer="adam", loss=loss, metrics=[seqloss.keras.Perplexity(ignore_class=0)])
        model.fit(tokens, tokens, verbose=0)
    """

    def __init__(
        self, *, ignore_class: Any = None, name: str = "sequence_loss", dtype: Any = None, **options_: Any
    ) -> None:
        chosen = options.given("SequenceLoss", options_, ignore_class, options.DEFAULTS)
        if chosen["reduction"] is None:  # "none" to Keras, and "mean" to seqloss
            raise OptionError(f"reduction must be one of {', '.join(map(repr, MEANS))}, got None; choose one")
        settings(True, True, False, False, name=name, **chosen)
        # Not the reduction: Keras refuses the names that it does not know.
        super().__init__(name=name, reduction=None, dtype=dtype)
        self.reduction = chosen["reduction"]
        self._options = chosen
        self._cast = None if dtype is None else self.dtype
        self._given_dtype = None if dtype is None else self._dtype_policy.name

    def __call__(self, y_true: Array, y_pred: Array, sample_weight: Array | None = None) -> Array:
        """The loss of targets, logits, and weights [batch] or [batch, time].

        Parameters
        ----------
        y_true : array of shape [batch, time] or [batch, time, classes]
            The targets: class ids, or soft targets.
        y_pred : array of shape [batch, time, classes]
            The logits, with the mask of the model if it has one.
        sample_weight : array of shape [batch] or [batch, time], optional
            The weight of each sequence or of each token.

        Returns
        -------
        array
            The loss, in nats: one number, unless the reduction keeps an axis.
        """
        # Not that of Keras, which casts logits and labels to float32, and multiplies by weights that may be NaN.
        mask = masking.keras_mask(y_pred)
        logits = options.logits(y_pred, self._cast)
        weights = masking.token_weights(logits, sample_weight, mask)
        targets = options.labels(y_true, logits)
        loss = seqloss.sequence_loss(logits, targets, weights, name=self.name, **self._options)
        return _of_a_replica(loss) if self.reduction in _MEANS else loss

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """The loss of each token, without weights and whatever the mask says.

        Parameters
        ----------
        y_true : array of shape [batch, time] or [batch, time, classes]
            The targets: class ids, or soft targets.
        y_pred : array of shape [batch, time, classes]
            The logits.

        Returns
        -------
        array of shape [batch, time]
            The losses, in nats.
        """
        logits = options.logits(y_pred, self._cast)
        return seqloss.sequence_loss(logits, options.labels(y_true, logits), **{**self._options, "reduction": "none"})

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, as numbers, strings and lists.

        Returns
        -------
        dict
            The name, the dtype, and each option.
        """
        kept = {name: options.plain(value) for name, value in self._options.items()}
        return {**kept, "name": self.name, "dtype": self._given_dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SequenceLoss":
        """The loss that :meth:`get_config` describes.

        Parameters
        ----------
        config : dict
            Arguments of the constructor.

        Returns
        -------
        SequenceLoss
            A new one.
        """
        return cls(**options.restored(config))


def _of_a_replica(loss: Array) -> Array:
    """The part of one replica, because strategies of TensorFlow add the gradients of replicas up (Keras 3.15)."""
    if keras.backend.backend() != "tensorflow":
        return loss
    replicas = sys.modules["tensorflow"].distribute.get_strategy().num_replicas_in_sync
    return loss if replicas == 1 else loss / replicas


options.show(SequenceLoss, options.DEFAULTS)
SequenceLoss.__module__ = "seqloss.keras"  # where users find it
keras.saving.register_keras_serializable(package="seqloss", name="SequenceLoss")(SequenceLoss)
