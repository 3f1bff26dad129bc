"""Masks from sequence lengths."""

from typing import Any

from seqloss.core import checks, dispatch
from seqloss.core.errors import UnreadableError
from seqloss.core.protocol import Array


def sequence_mask(lengths: Array, maxlen: int | None = None, dtype: Any = "bool") -> Array:
    r"""A mask that is True in the first ``lengths[i]`` positions of row i.
    """
    name = checks.dtype_name(dtype)
    backend, (argument,) = dispatch.gather(("lengths", lengths))
    checks.integer_dtype("lengths", argument.dtype)
    if maxlen is not None:
        checks.maxlen(maxlen)
    elif not backend.readable(argument.value, sync=True):
        raise UnreadableError(
            "lengths have no values yet (traced or batched), so the longest is unknown; pass maxlen, "
            "the time size of the batch"
        )
    else:
        maxlen = max(0, int(backend.to_numpy(argument.value).max(initial=0)))
    positions = backend.arange(maxlen, like=argument.value)
    wide = backend.astype(argument.value, backend.dtype(positions))
    return backend.astype(positions < backend.expand_dims(wide, axis=-1), name)
