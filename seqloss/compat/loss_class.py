"""The class SequenceLoss: its flags, its call, and what makes it a loss of Keras where Keras is loaded."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

from seqloss.core import options
from seqloss.core.protocol import Array
from seqloss.losses import masking

FLAGS = ("average_across_timesteps", "average_across_batch", "sum_over_timesteps", "sum_over_batch")


class SequenceLoss:
    """What both SequenceLoss classes share; they differ in the function that they call."""

    _keras_classes: dict[type, type] = {}  # noqa: RUF012  # one for the process, filled when Keras is seen

    def __new__(cls, *args: Any, **kwargs: Any) -> "SequenceLoss":
        """An instance of a real ``keras.losses.Loss`` if Keras is loaded.

        ``compile`` wraps every other callable, and what wraps it applies weights and a reduction of its own.
        """
        base = _keras_loss()
        return object.__new__(cls if base is None or issubclass(cls, base) else _with_keras(cls, base))

    def __init__(
        self,
        average_across_timesteps: bool = False,
        average_across_batch: bool = False,
        sum_over_timesteps: bool = True,
        sum_over_batch: bool = True,
        softmax_loss_function: Callable[..., Array] | None = None,
        name: str | None = None,
    ) -> None:
        flags = (average_across_timesteps, average_across_batch, sum_over_timesteps, sum_over_batch)
        # Bools of Python, because a saved model has them as JSON.
        kept = [options.flag(flag, value) for flag, value in zip(FLAGS, flags, strict=True)]
        options.loss_options(softmax_loss_function, name, None)
        self._start(name)
        self.average_across_timesteps, self.average_across_batch, self.sum_over_timesteps, self.sum_over_batch = kept
        self.softmax_loss_function = softmax_loss_function
        self._scope = name

    # What inspect and the documentation show, in place of the arguments of __new__.
    __signature__ = inspect.Signature(list(inspect.signature(__init__).parameters.values())[1:])

    def _start(self, name: str | None) -> None:
        self.name = name

    def __call__(self, y_true: Array, y_pred: Array, sample_weight: Array | None = None) -> Array:
        """The loss of targets [batch, time], logits [batch, time, classes] and weights [batch, time].

        Parameters
        ----------
        y_true : array
            The targets. They come first, unlike those of the function.
        y_pred : array
            The logits.
        sample_weight : array, optional
            The weights; None means all ones. Where a Keras model passes the mask of a layer with y_pred, masked
            tokens have the weight 0.

        Returns
        -------
        array
            What the function returns.
        """
        mask = self._mask(y_pred)
        if mask is not None:
            sample_weight = mask if sample_weight is None else masking.masked(y_pred, sample_weight, mask)
        flags = [getattr(self, flag) for flag in FLAGS]
        return self._loss(y_pred, y_true, sample_weight, *flags, self.softmax_loss_function, self._scope)

    @staticmethod
    def _loss(*arguments: Any) -> Array:
        """The function of the module, whose weights may be None here."""
        raise NotImplementedError

    @staticmethod
    def _mask(y_pred: Array) -> Array | None:
        """The mask [batch, time] that Keras attached to the logits."""
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        # By its public class, since pickle cannot find the one made for Keras; that is decided anew where it is loaded.
        return _rebuilt, (self._public, self.get_config())

    @property
    def _public(self) -> type:
        return type(self)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, from which :meth:`from_config` makes the same loss.

        Returns
        -------
        dict
            The four flags, the custom loss if there is one, and the name.
        """
        config: dict[str, Any] = {flag: getattr(self, flag) for flag in FLAGS}
        if self.softmax_loss_function is not None:
            config["softmax_loss_function"] = self.softmax_loss_function
        return {**config, "name": self._scope}

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
        return cls(**config)


def register(cls: type[SequenceLoss]) -> None:
    """Let Keras find the class in saved models before an object of it was made, if Keras is loaded already."""
    base = _keras_loss()
    if base is not None:
        _with_keras(cls, base)


def _keras_loss() -> Any:
    # Half of Keras is loaded while it imports itself.
    return getattr(getattr(sys.modules.get("keras"), "losses", None), "Loss", None)


def _with_keras(cls: type, base: type) -> type:
    """The class as a subclass of ``keras.losses.Loss`` that keeps its own call and configuration."""
    found = SequenceLoss._keras_classes.get(cls)
    if found is None or not issubclass(found, base):

        def start(self: Any, name: str | None) -> None:
            base.__init__(self, name=name)  # type: ignore[misc]  # the class of an instance of its subclass

        names = {
            "_start": start,
            "_mask": staticmethod(masking.keras_mask),
            "_public": cls,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
        }
        found = SequenceLoss._keras_classes[cls] = type(cls.__name__, (cls, base), names)
        saving = getattr(sys.modules.get("keras"), "saving", None)
        if saving is not None and cls.__module__.startswith(_PACKAGE):
            # Saved models name the class by this entry of Keras' registry, since Keras imports no modules of others.
            # Classes of callers are theirs to register.
            name = f"{cls.__module__.removeprefix(_PACKAGE)}.{cls.__name__}"
            saving.register_keras_serializable(package="seqloss", name=name)(found)
    return found


_PACKAGE = "seqloss.compat."


def _rebuilt(cls: type[SequenceLoss], config: dict[str, Any]) -> SequenceLoss:
    return cls.from_config(config)
