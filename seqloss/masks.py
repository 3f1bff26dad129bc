"""Masks from sequence lengths."""

from typing import TYPE_CHECKING, Any, overload

from seqloss.core import dispatch, dtypes, labels, options
from seqloss.core.errors import DTypeError, UnreadableError
from seqloss.core.types import Main
from seqloss.losses import beside

if TYPE_CHECKING:
    from numpy.typing import NDArray


@overload
def sequence_mask(lengths: Main, maxlen: int | None = None, dtype: Any = "bool") -> Main: ...
@overload  # lists become arrays of NumPy
def sequence_mask(
    lengths: list[Any] | tuple[Any, ...] | int, maxlen: int | None = None, dtype: Any = "bool"
) -> "NDArray[Any]": ...
def sequence_mask(lengths: Any, maxlen: int | None = None, dtype: Any = "bool") -> Any:
    """A mask that is True in the first ``lengths[i]`` positions of row i.

    In one formula: ``mask[..., t] = t < lengths[...]``.

    Parameters
    ----------
    lengths : array of shape [...]
        The length of each sequence, of any integer dtype, with any number of axes. A negative length counts as 0, one
        above ``maxlen`` as ``maxlen``.
    maxlen : int, optional
        The number of columns, at least 0: a Python or NumPy integer, not an array. None means the largest length,
        which must be readable.
    dtype : str or dtype, default "bool"
        The dtype of the mask: the name of a bool, integer or float dtype, or such a dtype of any framework.

    Returns
    -------
    array of shape [..., maxlen]
        The mask, in the framework of ``lengths``: True or 1 inside each sequence, False or 0 after it.

    Raises
    ------
    DTypeError
        If lengths are not integers, or dtype is not one of the kinds above.
    ArgumentTypeError
        If maxlen is not an integer, or lengths are not a dense array.
    ShapeError
        If maxlen is negative.
    UnreadableError
        If maxlen is None and lengths have no values to read.

    See Also
    --------
    sequence_loss : Takes the mask as its weights.

    Notes
    -----
    The mask has no gradient.

    Under tracing (``jax.jit``, ``tf.function``, ``torch.compile``, ``vmap``) lengths have no values, so maxlen must be
    given. Outside of it, maxlen=None waits for an accelerator that holds the lengths.

    References
    ----------
    ``tf.sequence_mask`` of TensorFlow.

    Examples
    --------
    >>> import seqloss
    >>> print(seqloss.sequence_mask([1, 3], maxlen=4, dtype="int32"))
    [[1 0 0 0]
     [1 1 1 0]]
    """
    name = dtypes.dtype_name(dtype)
    argument = dispatch.argument("lengths", lengths)
    backend = argument.facts
    dtypes.lengths_dtype(argument.dtype)
    if maxlen is not None:
        options.maxlen(maxlen)
    elif not labels.is_readable(argument, sync=True):
        raise UnreadableError(
            "lengths have no values yet (traced or batched), so the longest is unknown; pass maxlen, "
            "the time size of the batch"
        )
    else:
        maxlen = max(0, int(backend.to_numpy(argument.value).max(initial=0)))
    mask = beside.below(backend, argument.value, maxlen, argument.value)
    try:
        return backend.astype(mask, name)
    except TypeError as error:
        raise DTypeError(f"the framework of lengths has no dtype {name}: {error}; choose another dtype") from error
