"""TensorFlow 1.15: ``from seqloss.compat import tf1 as tf``."""

from typing import Any

import seqloss
from seqloss.compat.tf1 import contrib, losses, nn
from seqloss.core.protocol import Array

__all__ = ["contrib", "losses", "nn", "sequence_mask"]


def sequence_mask(lengths: Array, maxlen: int | None = None, dtype: Any = "bool", name: str | None = None) -> Array:
    """:func:`seqloss.sequence_mask` in the signature of TensorFlow 1.15.

    Parameters
    ----------
    lengths : array of shape [...]
        As there.
    maxlen : int, optional
        As there.
    dtype : str or dtype, default "bool"
        As there.
    name : str, optional
        Ignored.

    Returns
    -------
    array of shape [..., maxlen]
        The mask.
    """
    return seqloss.sequence_mask(lengths, maxlen, dtype)
