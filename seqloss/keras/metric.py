"""``seqloss.keras.Perplexity``."""

from typing import Any

import keras
import numpy as np

from seqloss.core.protocol import Array
from seqloss.keras import options, sums
from seqloss.losses import masking
from seqloss.losses.settings import settings


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
        The dtype of the result; None is Keras's own, float32. The sums have more digits, see the notes.

    Raises
    ------
    ArgumentTypeError
        If there is no such argument, or an option has the wrong type.
    OptionError
        If an option has no such value.
    SeqlossError
        When it is updated, what :func:`seqloss.sequence_loss` raises.

    See Also
    --------
    SequenceLoss : The loss.

    Notes
    -----
    There is no smoothing, z-loss or class weight, because the perplexity of such an objective is none. Without any
    token the result is 1.

    The sums are float64. Where there is no float64, as in JAX without its 64-bit mode, each is a pair of float32 that
    keeps what rounding cuts off.

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
        chosen = options.given("Perplexity", options_, ignore_class, sums.OPTIONS)
        settings(True, True, False, False, name=name, **{**options.DEFAULTS, **chosen})
        super().__init__(name=name, dtype=dtype)
        self._options = chosen
        # NumPy has said float64, which Keras makes of it is the widest that there is.
        wide = keras.backend.standardize_dtype(keras.ops.convert_to_tensor(np.zeros(())).dtype)
        parts = ("",) if wide == "float64" else ("", "_rest")
        for kind in ("numerator", "denominator"):
            setattr(self, kind, [self.add_variable((), "zeros", dtype=wide, name=kind + part) for part in parts])

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
        numerator, denominator = sums.of_tokens(logits, options.labels(y_true, logits), weights, **self._options)
        sums.add(self.numerator, numerator)
        sums.add(self.denominator, denominator)

    def result(self) -> Array:
        """The perplexity of all tokens so far.

        Returns
        -------
        array of shape []
            The perplexity, in the dtype of the metric; 1 if there were no tokens.
        """
        numerator, denominator = sums.total(self.numerator), sums.total(self.denominator)
        mean = keras.ops.divide_no_nan(numerator, denominator)
        return keras.ops.cast(keras.ops.exp(mean), self.dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, as numbers, strings and lists.

        Returns
        -------
        dict
            The name, the dtype, and each option.
        """
        kept = {name: options.plain(value) for name, value in self._options.items()}
        return {**super().get_config(), **kept}


options.show(Perplexity, sums.OPTIONS)
Perplexity.__module__ = "seqloss.keras"  # where users find it
keras.saving.register_keras_serializable(package="seqloss", name="Perplexity")(Perplexity)
