"""seqloss: the loss of a sequence model, the same in NumPy, PyTorch, TensorFlow and JAX.

Importing this package imports no framework, not even NumPy; the arrays of a call bring their own.
"""

import importlib
from typing import TYPE_CHECKING

from seqloss.core import extras as _extras
from seqloss.core.dispatch import register_backend
from seqloss.core.errors import (
    ArgumentTypeError,
    BackendError,
    DeviceError,
    DTypeError,
    LabelError,
    MixedBackendsError,
    OptionError,
    SeqlossError,
    ShapeError,
    UnreadableError,
)
from seqloss.core.smoothing import Smoothing
from seqloss.legacy import sequence_loss_by_example
from seqloss.linear import linear_loss_sum, linear_sequence_loss, linear_sequence_loss_and_grad
from seqloss.loss_sum import loss_sum
from seqloss.losses.sums import LossSum
from seqloss.masks import sequence_mask
from seqloss.sampling import nce_loss, sampled_softmax_loss
from seqloss.sequence import sequence_loss, sequence_loss_and_grad
from seqloss.shift import next_token
from seqloss.tokens import token_loss
from seqloss.weighted import (
    Reduction,
    compute_weighted_loss,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    sparse_softmax_cross_entropy,
)
from seqloss.with_logits import (
    sigmoid_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits,
    sparse_softmax_cross_entropy_with_logits,
    weighted_cross_entropy_with_logits,
)

__version__ = "0.1.0.dev0"

__all__ = [
    "ArgumentTypeError",
    "BackendError",
    "DTypeError",
    "DeviceError",
    "LabelError",
    "LossSum",
    "MixedBackendsError",
    "OptionError",
    "Reduction",
    "SeqlossError",
    "ShapeError",
    "Smoothing",
    "UnreadableError",
    "compute_weighted_loss",
    "linear_loss_sum",
    "linear_sequence_loss",
    "linear_sequence_loss_and_grad",
    "loss_sum",
    "nce_loss",
    "next_token",
    "register_backend",
    "sampled_softmax_loss",
    "sequence_loss",
    "sequence_loss_and_grad",
    "sequence_loss_by_example",
    "sequence_mask",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_with_logits",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_logits",
    "sparse_softmax_cross_entropy",
    "sparse_softmax_cross_entropy_with_logits",
    "token_loss",
    "weighted_cross_entropy_with_logits",
]

_FACES = ("keras", "torch")
"""Modules that import a framework, and are imported when they are first used."""

_ROOMS = ("legacy", "samplers")
"""The public modules that are there from the start; the others are imported by their names."""

if TYPE_CHECKING:
    from seqloss import keras as keras
    from seqloss import torch as torch
else:  # with it, type checkers would take every name for one that exists

    def __getattr__(name):
        if name in _FACES:
            try:
                return importlib.import_module(f"seqloss.{name}")
            except ModuleNotFoundError as error:
                if error.name != name:  # else the framework is not there, and hasattr should say False
                    raise
                raise AttributeError(
                    f"seqloss.{name} needs {name}, which is not installed; {_extras.add(name)}"
                ) from error
        mend = ""
        if name == "cross_entropy":  # what people look for who come from other libraries
            mend = "; call seqloss.token_loss for the cross entropy of each token, seqloss.sequence_loss for their mean"
        raise AttributeError(f"module 'seqloss' has no attribute {name!r}{mend}")

    def __dir__():
        return sorted({*__all__, *_FACES, *_ROOMS, *(name for name in globals() if name.startswith("__"))})
