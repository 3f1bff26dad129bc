"""``seqloss.keras.Perplexity``."""

import inspect
from typing import Any

import keras

import seqloss
from seqloss.core.protocol import Array
from seqloss.keras import options
from seqloss.losses import columns, masking
from seqloss.losses.settings import settings

OPTIONS = [name for name in inspect.signature(seqloss.loss_sum).parameters if name in options.DEFAULTS]


class Perplexity(keras.metrics.Metric):
    """The perplexity of all tokens since the last reset: ``exp(sum(weights * nll) / sum(weights))``.

    Numerator and denominator are added up over the batches, so batches of any sizes give the same result. In
    ``compile`` pass it as one of ``metrics``, or of ``weighted_metrics`` for the ``sample_weight`` to count.

    Parameters
    ----------
    ignore_class : int or tuple of int, optional
        Keras's name of ``ignore_index``.
    name : str, default "perplexity"
        The name of the metric in logs.
    dtype : str or keras.DTypePolicy, optional
        The dtype of the result; None is Keras's own, float32. The sums are exact whatever it is.

    Raises
    ------
    ArgumentTypeError
        If there is no such argument, or an option has the wrong type.
    OptionError
        If an option has no such value.
    SeqlossError
        When it is updated, what :func:`seqloss.loss_sum` raises.

    See Also
    --------
    SequenceLoss : The loss.
    seqloss.loss_sum : The same without Keras.

    Notes
    -----
    There is no smoothing, z-loss or class weight: the exponential of such a loss is not a perplexity. Without any
    token the result is 1.

    The sums are those of a :class:`seqloss.LossSum`, in integers, so that no order and no grouping of the batches
    changes a bit of them, on backends without float64 too. The variables of the metric are its two arrays.

    In ``fit`` on the JAX backend Keras 3.15 loses the mask of the model on its way to the metrics (to all of them, and
    not in ``evaluate``), so padding counts there unless ``ignore_class`` or ``weighted_metrics`` leave it out.

    The value has no gradient. In a compiled step a bad label makes it NaN.

    References
    ----------
    ``keras.metrics.Metric`` of Keras 3.

    Examples
    --------
    .. code-block:: python

        import seqloss

        metric = seqloss.keras.Perplexity(ignore_class=0)
        metric.update_state([[1, 2, 0]], [[[0.0, 1.0, 1.0], [0.0, 1.0, 1.0], [9.0, 0.0, 0.0]]])
        print(f"{float(metric.result()):.4f}")  # (1 + 2 e) / e
    """

    def __init__(
        self, *, ignore_class: Any = None, name: str = "perplexity", dtype: Any = None, **options_: Any
    ) -> None:
        chosen = options.given("Perplexity", options_, ignore_class, OPTIONS)
        settings(True, True, False, False, name=name, **{**options.DEFAULTS, **chosen})
        super().__init__(name=name, dtype=dtype)
        self._options = chosen
        # What a LossSum consists of.
        self.limbs = self.add_variable((columns.SIZE, 2), "zeros", dtype="int32", name="limbs")
        self.barrier = self.add_variable((), "zeros", dtype=_widened(self.dtype), name="barrier")

    def update_state(self, y_true: Array, y_pred: Array, sample_weight: Array | None = None) -> None:
        """Add the tokens of a batch.

        Parameters
        ----------
        y_true : array of shape [batch, time]
            The targets, as class ids.
        y_pred : array of shape [batch, time, classes]
            The logits, with the mask of the model if it has one.
        sample_weight : array of shape [batch] or [batch, time], optional
            The weight of each sequence or of each token.
        """
        mask = masking.keras_mask(y_pred)
        logits = keras.ops.stop_gradient(options.logits(y_pred, None))
        weights = masking.token_weights(logits, sample_weight, mask)
        total = self._total() + seqloss.loss_sum(logits, options.labels(y_true, logits), weights, **self._options)
        self.limbs.assign(total.limbs)
        self.barrier.assign(total.barrier)

    def result(self) -> Array:
        """The perplexity of all tokens so far.

        Returns
        -------
        array of shape []
            The perplexity, in the dtype of the metric; 1 if there were no tokens.
        """
        return keras.ops.cast(self._total().perplexity(), self.dtype)

    def _total(self) -> seqloss.LossSum:
        # An addition reads a variable on each backend; ops.convert_to_tensor leaves one of TensorFlow (Keras 3.15).
        return seqloss.LossSum(self.limbs + 0, self.barrier + 0)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, as numbers, strings and lists.

        Returns
        -------
        dict
            The name, the dtype, and each option.
        """
        kept = {name: options.plain(value) for name, value in self._options.items()}
        return {**super().get_config(), **kept}


def _widened(dtype: str) -> str:
    return "float64" if dtype == "float64" else "float32"


options.show(Perplexity, OPTIONS)
Perplexity.__module__ = "seqloss.keras"  # where users find it
keras.saving.register_keras_serializable(package="seqloss", name="Perplexity")(Perplexity)
