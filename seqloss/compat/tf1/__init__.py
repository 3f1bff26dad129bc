"""The losses of TensorFlow 1.15: ``tf1.contrib``, ``tf1.losses``, ``tf1.nn``."""

from numbers import Integral
from typing import Any

import seqloss
from seqloss.compat import derived
from seqloss.compat.tf1 import contrib, losses, nn
from seqloss.core import dispatch, dtypes, labels
from seqloss.core.errors import UnreadableError
from seqloss.core.protocol import Array

__all__ = ["contrib", "losses", "nn", "sequence_mask"]


@derived.documented_by(seqloss.sequence_mask)
def sequence_mask(
    lengths: Array, maxlen: Array | int | None = None, dtype: Any = "bool", name: str | None = None
) -> Array:
    """As :func:`seqloss.sequence_mask`, in the signature of TensorFlow 1.15.

    Parameters
    ----------
    maxlen : int or array of shape [], optional
        As in :func:`seqloss.sequence_mask`. An array must be of an integer dtype and readable, and is waited for.
    name : str, optional
        Ignored.

    Raises
    ------
    UnreadableError
        If maxlen is a tensor without a value, as in a TensorFlow graph or under ``jax.jit``.
    SeqlossError
        Also what :func:`seqloss.sequence_mask` raises.
    """
    return seqloss.sequence_mask(lengths, _number(maxlen), dtype)


def _number(maxlen: Any) -> Any:
    """The value of a scalar array; everything else as it is, for the check of maxlen."""
    if maxlen is None or isinstance(maxlen, (int, Integral, float, list, tuple)) or dispatch.backend_of(maxlen) is None:
        return maxlen
    argument = dispatch.argument("maxlen", maxlen)
    if argument.shape != () or argument.dtype not in dtypes.INTEGERS:
        return maxlen
    if not labels.is_readable(argument, sync=True):
        raise UnreadableError(
            "maxlen has no value yet (traced or batched), but the number of columns is needed now; pass a Python "
            "integer, the time size of the batch"
        )
    return int(argument.facts.to_numpy(argument.value))
