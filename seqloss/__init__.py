"""seqloss: the loss of a sequence model, the same in NumPy, PyTorch, TensorFlow and JAX.

Importing this package imports no framework, not even NumPy; the arrays of a call bring their own.
"""

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
from seqloss.cross_entropy import token_loss
from seqloss.masks import sequence_mask
from seqloss.sequence import sequence_loss, sequence_loss_and_grad

__version__ = "0.1.0.dev0"

__all__ = [
    "ArgumentTypeError",
    "BackendError",
    "DTypeError",
    "DeviceError",
    "LabelError",
    "MixedBackendsError",
    "OptionError",
    "SeqlossError",
    "ShapeError",
    "UnreadableError",
    "register_backend",
    "sequence_loss",
    "sequence_loss_and_grad",
    "sequence_mask",
    "token_loss",
]
