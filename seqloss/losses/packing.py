"""Packed input: a batch whose sequences come one after the other, [tokens, classes], without padding.

It is computed as a batch of one sequence. Only averages along time need to know where sequences begin.
"""

from typing import Any

from seqloss.core import labels, open_sizes, packed
from seqloss.core.argument import Argument
from seqloss.core.call import Call
from seqloss.core.protocol import Array, Backend
from seqloss.losses import beside
from seqloss.losses.reduction import Plan


def check(call: Call, cu_seqlens: Any, has_lengths: bool, *others: Argument | None) -> Argument:
    """The offsets, as far as they can be read.

    For ragged logits they are the logits' own, and ragged ``others`` must have the same.
    """
    shape = call.main.shape
    if call.main.packed is not None:
        if cu_seqlens is not None:
            packed.beside_ragged()
        cu_seqlens = call.main.packed[0]
    argument = call.beside("cu_seqlens", cu_seqlens)
    packed.offsets(argument.shape, argument.dtype)
    if has_lengths:
        packed.beside_lengths()
    if not labels.is_readable(argument):
        return argument
    values = argument.facts.to_numpy(argument.value)
    packed.are_offsets(values, None if shape is None else shape[0])
    for other in _ragged(others):
        same_offsets(call, other, argument.value)
    return argument


def place(call: Call, offsets: Argument, logits: Array, *others: Argument | None) -> tuple[Array, Array | None]:
    """The offsets as an array, and whether they can be those of all arrays, [1, 1]; None if they are known to be.

    If they turn out not to be, everything that the call returns is NaN.
    """
    backend, shape = call.backend, call.main.shape
    starts, unread = call.place(offsets, rank=1), [x for x in _ragged(others) if not _has_values(call, x)]
    if shape is not None and shape[0] is not None and labels.is_readable(offsets) and not unread:
        return starts, None
    sequences, first = _sequences(backend, starts), backend.arange(1, like=starts)
    tokens, batch = (first + backend.sizes(x)[0] for x in (logits, starts))
    tokens, counts = beside.in_one_dtype(backend, tokens, starts)
    falls = backend.take(counts, sequences + 1) < backend.take(counts, sequences)
    ends = backend.equal(backend.take(counts, first), 0) & backend.equal(backend.take(counts, batch - 1), tokens)
    is_right = ends & backend.equal(backend.count_nonzero(falls, axis=(0,)), 0)
    for other in _ragged(others):
        packed.same_batch(other.name, backend.shape(other.packed[0]), offsets.shape)
        same, (_, own) = backend.sizes_agree([starts, other.packed[0]], open_sizes.PACKED_SIZES_DIFFER)
        differs = ~backend.equal(starts, backend.astype(own, backend.dtype(starts)))
        is_right = is_right & same & backend.equal(backend.count_nonzero(differs, axis=(0,)), 0)
    call.require(backend.reshape(is_right, ()))
    return starts, backend.expand_dims(is_right, axis=0)


def same_offsets(call: Call, other: Any, offsets: Array) -> None:
    """Compare the offsets of another ragged array, as far as they can be read."""
    packed.same_batch(other.name, call.backend.shape(other.packed[0]), call.backend.shape(offsets))
    if _has_values(call, other) and call.backend.location(offsets) == "host":
        packed.same_offsets(other.name, call.backend.to_numpy(other.packed[0]), call.backend.to_numpy(offsets))


def _ragged(arguments: tuple[Argument | None, ...]) -> list[Any]:
    return [x for x in arguments if x is not None and x.packed is not None]


def _has_values(call: Call, argument: Any) -> bool:
    return call.backend.location(argument.packed[0]) == "host"


def lifted(backend: Backend, *arrays: Array | None) -> list[Any]:
    """The same as a batch of one sequence."""
    return [None if x is None else backend.expand_dims(x, axis=0) for x in arrays]


def lowered(backend: Backend, x: Array) -> Array:
    """The same without that axis."""
    return backend.reshape(x, backend.sizes(x)[1:])


def members(backend: Backend, plan: Plan, starts: Array | None, logits: Array) -> Array | None:
    """[batch, tokens]: which tokens are in which sequence, if these are packed and averaged along time."""
    if starts is None or plan.axis != (1,):
        return None
    sequences = _sequences(backend, starts)
    is_before = beside.below(backend, starts, backend.sizes(logits)[1], logits)
    return backend.take(is_before, sequences + 1) & ~backend.take(is_before, sequences)


def _sequences(backend: Backend, starts: Array) -> Array:
    """The numbers of the sequences."""
    return backend.arange(backend.sizes(starts)[0] - 1, like=starts)
