"""The target of each position of a language model: the token after it."""

from seqloss.core import dtypes, labels, objectives, open_sizes, packed, shapes
from seqloss.core.argument import Argument
from seqloss.core.call import Call
from seqloss.core.protocol import Array
from seqloss.core.types import ArrayLike, Main
from seqloss.losses import beside, packing


def next_token(
    targets: Main,
    weights: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    segment_ids: ArrayLike | None = None,
    cu_seqlens: ArrayLike | None = None,
    ignore_index: int | tuple[int, ...] | None = None,
) -> tuple[Main, Main]:
    """Shift targets and weights by one, for a language model that predicts the next token at each position.

    Position t gets the target and the weight of position t + 1, and weight 0 where there is none in the same sequence::

        next_targets[b, t] = targets[b, t + 1]
        next_weights[b, t] = weights[b, t + 1] if both positions are of one sequence, else 0

    So you pass the logits of all positions to :func:`sequence_loss` as they are; ``logits[:, :-1]`` would be a copy.

    Parameters
    ----------
    targets : array of shape [batch, time]
        The ids of the tokens, of any integer dtype; of the shape [tokens] beside ``cu_seqlens``.
    weights : array of the shape of targets, optional
        The weight of each token, of any float, integer or bool dtype. None means True everywhere.
    lengths : array of shape [batch], optional
        The number of tokens in each sequence, before the shift: of n tokens n - 1 are predicted.
    segment_ids : array of the shape of targets, optional
        Integers that are equal within a sequence, where several are in one row. No token is predicted across a change
        of them. They only mark boundaries: 0 is an id like any other.
    cu_seqlens : array of shape [batch + 1], optional
        The offset at which each packed sequence begins, and then the number of tokens. No token is predicted across
        these.
    ignore_index : int or tuple of int, optional
        Labels that get weight 0 as targets.

    Returns
    -------
    targets : array of the shape and dtype of targets
        The token after each position; at the last position of a row, which has weight 0, the token at that position.
    weights : array of the shape of targets
        In the dtype of the weights; bool without them.

    Raises
    ------
    ShapeError
        If an argument has the wrong rank or size.
    DTypeError
        If targets, lengths, segment_ids or cu_seqlens are not integers, or weights not numbers.
    OptionError
        If lengths come with cu_seqlens. If values can be read without waiting: if a length is negative or beyond time,
        or cu_seqlens are no offsets of the tokens.
    MixedBackendsError
        If the arrays are of several frameworks. NumPy arrays, lists and numbers go with any framework.
    DeviceError
        If PyTorch tensors are on several devices.

    See Also
    --------
    sequence_loss : The loss, which takes what is returned here.

    Notes
    -----
    The weights may be differentiated. Under tracing wrong lengths and offsets are not noticed here, and are used as
    they are. (:func:`sequence_loss` makes NaN of wrong offsets that it is given itself.) Sizes that are unknown in a
    TensorFlow graph are compared when it runs; where the compiler drops assertions, weights of floats are NaN if the
    sizes differ.

    Examples
    --------
    Two sentences in one row, of which the second ends before the row does:

    >>> import seqloss
    >>> targets, weights = seqloss.next_token(
    ...     [[5, 6, 7, 8, 9, 0]], segment_ids=[[1, 1, 1, 2, 2, 2]], ignore_index=0
    ... )
    >>> print(targets)
    [[6 7 8 9 0 0]]
    >>> print(weights.astype(int))
    [[1 1 0 1 0 0]]
    """
    ignored = objectives.ignore_index(ignore_index)
    call, is_packed = Call("targets", targets), cu_seqlens is not None
    backend, y = call.backend, call.main
    if is_packed:
        packed.token_ids(y.shape)
    else:
        shapes.token_ids(y.shape)
    dtypes.targets_dtype(y.dtype)
    others = {"weights": weights, "segment_ids": segment_ids}
    given = {name: call.beside(name, x) for name, x in others.items() if x is not None}
    is_open = False
    for name, argument in given.items():
        is_open |= shapes.equal_shape(name, argument.shape, "targets", y.shape)
    if "weights" in given:
        dtypes.weights_dtype(given["weights"].dtype)
    if "segment_ids" in given:
        dtypes.integers("segment_ids", given["segment_ids"].dtype)
    starts = packing.check(call, cu_seqlens, lengths is not None) if is_packed else None
    counts = None if lengths is None else beside.lengths_of(call, lengths)
    with backend.scope(None):
        arrays = [call.place(x, rank=1 if is_packed else 2) for x in (y, *given.values())]
        if is_open:
            arrays = call.compare(arrays, open_sizes.SHIFTED_SIZES_DIFFER)
        if is_packed:
            arrays = packing.lifted(backend, *arrays)
        placed = dict(zip(given, arrays[1:], strict=True))
        if counts is not None:
            placed["lengths"] = call.place(counts, rank=1)
            if shapes.is_open(y.shape, counts.shape):
                arrays[0], placed["lengths"] = call.compare([arrays[0], placed["lengths"]], open_sizes.LENGTHS_DIFFER)
        shifted, kept = _shifted(call, arrays[0], placed, starts, ignored)
        if is_packed:
            shifted, kept = (packing.lowered(backend, x) for x in (shifted, kept))
        return shifted, call.guard(kept) if backend.dtype(kept) in dtypes.FLOATS else kept


def _shifted(
    call: Call,
    targets: Array,
    given: dict[str, Array],
    starts: Argument | None,
    ignored: tuple[int, ...],
) -> tuple[Array, Array]:
    """Targets and weights [batch, time], shifted."""
    backend = call.backend
    time = backend.sizes(targets)[1]
    positions = backend.arange(time, like=targets)
    has_next = positions + 1 < time
    following = backend.where(has_next, positions + 1, positions)

    def moved(x: Array) -> Array:
        return backend.permute_dims(backend.take(backend.permute_dims(x, (1, 0)), following), (1, 0))

    found = moved(targets)
    kept = backend.ones_like(targets, dtype="bool") & backend.expand_dims(has_next, axis=0)
    if "segment_ids" in given:
        kept = kept & backend.equal(moved(given["segment_ids"]), given["segment_ids"])
    if starts is not None:
        is_before = beside.below(backend, call.place(starts, rank=1), time, targets)
        number = backend.expand_dims(backend.count_nonzero(is_before, axis=(0,)), axis=0)
        kept = kept & backend.equal(moved(number), number)
    if "lengths" in given:
        kept = kept & moved(beside.below(backend, given["lengths"], time, targets))
    for label in ignored:
        if labels.can_hold(call.main.dtype, label):
            kept = kept & ~backend.equal(found, label)
    if "weights" not in given:
        return found, kept
    behind = moved(given["weights"])
    # Not selected, because PyTorch (torch 2.13) makes integers of bools and a number.
    return found, kept & behind if backend.dtype(behind) == "bool" else backend.where(kept, behind, 0)
