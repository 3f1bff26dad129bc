"""The static options of ``sequence_loss``, as arguments of an object that Keras saves."""

import inspect
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

import seqloss
from seqloss.compat import derived
from seqloss.core.errors import OptionError
from seqloss.core.options import known

# A mask and sample_weight say which tokens count, and reduction says in a word what the flags say.
_OF_A_BATCH = {"logits", "targets", "weights", "lengths", "cu_seqlens", "normalizer"}
_FLAGS = {"average_across_timesteps", "average_across_batch", "sum_over_timesteps", "sum_over_batch"}
_OF_KERAS = {"name"}

DEFAULTS: dict[str, Any] = {
    name: parameter.default
    for name, parameter in inspect.signature(seqloss.sequence_loss).parameters.items()
    if name not in _OF_A_BATCH | _FLAGS | _OF_KERAS
} | {"reduction": "mean"}
"""The options of :class:`seqloss.keras.SequenceLoss` and their defaults."""


def show(cls: type, names: Iterable[str]) -> None:
    """Let help and editors show these options in the place of ``**options``."""
    _, *own, _ = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    kind = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.Signature([*own, *(inspect.Parameter(name, kind, default=DEFAULTS[name]) for name in names)])
    derived.show_options(cls, signature, seqloss.sequence_loss)


def given(owner: str, options: dict[str, Any], ignore_class: Any, names: Iterable[str]) -> dict[str, Any]:
    """All options of an object, of which a caller gave some."""
    elsewhere = "Choose the tokens that count by the mask of the model, by sample_weight or by ignore_class"
    known(owner, options, names, elsewhere)
    if ignore_class is not None:
        if options.get("ignore_index") is not None:
            raise OptionError("ignore_class and ignore_index are two names of one option; pass one of them")
        options = {**options, "ignore_index": ignore_class}
    return {name: options.get(name, DEFAULTS[name]) for name in names}


def plain(value: Any) -> Any:
    """An option as a saved model has it."""
    if isinstance(value, seqloss.Smoothing):
        return {name: plain(part) for name, part in value._asdict().items()}
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return keras.ops.convert_to_numpy(value).tolist()
    return keras.saving.serialize_keras_object(value) if callable(value) else value


def restored(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a constructor, of what :func:`plain` made of them."""
    config = dict(config)
    if isinstance(config.get("label_smoothing"), dict):
        config["label_smoothing"] = seqloss.Smoothing(**config["label_smoothing"])
    function = config.get("softmax_loss_function")
    if function is not None and not callable(function):
        config["softmax_loss_function"] = keras.saving.deserialize_keras_object(function)
    return config


def logits(y_pred: Any, dtype: str | None) -> Any:
    """Logits as an array of Keras's backend, in a dtype if one is given."""
    if not keras.ops.is_tensor(y_pred):
        return keras.ops.convert_to_tensor(y_pred, dtype=dtype)
    return y_pred if dtype is None else keras.ops.cast(y_pred, dtype)


def labels(y_true: Any, logits: Any) -> Any:
    """Class ids as integers, even if a pipeline has turned them into floats; a float that is not whole is not a class.

    Keras makes them floats itself: under ``tf.distribute`` it builds a model with the mean of the labels of the
    replicas (Keras 3.15).
    """
    is_array = keras.ops.is_tensor(y_true) or isinstance(y_true, np.ndarray)
    if not is_array or len(y_true.shape) != len(logits.shape) - 1:
        return y_true
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(y_true.dtype)):
        return y_true
    ids = keras.ops.cast(y_true, "int32")
    return keras.ops.where(keras.ops.equal(keras.ops.cast(ids, y_true.dtype), y_true), ids, -(2**31))
