"""The rows of a matrix, or the entries of a vector, in several shards, as TensorFlow's ``embedding_lookup`` has them.

With N classes and n shards, shard s has ``N // n`` rows, and one more if ``s < N % n``, whatever the strategy. "mod"
deals the classes out one by one: class i is row ``i // n`` of shard ``i % n``. "div" cuts them into blocks.
"""

from collections.abc import Sequence
from typing import Any

from seqloss.core import dispatch
from seqloss.core.protocol import Array, Backend

STRATEGIES = ("mod", "div")


def rows(classes: int, shards: int) -> list[int]:
    """The number of rows of each shard."""
    return [classes // shards + (shard < classes % shards) for shard in range(shards)]


def locate(backend: Backend, ids: Array, classes: int, shards: int, strategy: str) -> tuple[Array, Array]:
    """The shard of each id, and its row there."""
    if strategy == "mod":
        return ids % shards, ids // shards
    size, longer = divmod(classes, shards)
    edge = longer * (size + 1)
    is_head = ids < edge
    if size == 0:  # nothing lies behind the edge
        return ids, ids * 0
    shard = backend.where(is_head, ids // (size + 1), (ids - edge) // size + longer)
    return shard, backend.where(is_head, ids % (size + 1), (ids - edge) % size)


def take(
    backend: Backend,
    shards: Sequence[Array],
    ids: Array,
    known: Sequence[Any] | None,
    classes: int,
    strategy: str,
    dtype: str,
) -> Array:
    """The rows of the ids, cast to a dtype after they were taken, so that gradients arrive in that of their shard.

    ``known`` are NumPy arrays that hold the ids one after the other, where they can be read. Then each shard gives the
    rows that are wanted and no other. Elsewhere each gives one row for each id, its first where another shard has the
    row, and a selection follows; the gradient of such a first row is 0.
    """
    if len(shards) == 1:
        return backend.astype(backend.take(shards[0], ids), dtype)
    if known is not None:
        return _take_exactly(backend, shards, known, classes, strategy, dtype)
    place, row = locate(backend, ids, classes, len(shards), strategy)
    result = None
    for i in range(min(len(shards), classes)):  # the others are empty
        is_here = backend.equal(place, i)
        found = backend.astype(backend.take(shards[i], backend.where(is_here, row, 0)), dtype)
        if len(backend.sizes(found)) > 1:
            is_here = backend.expand_dims(is_here, axis=-1)
        result = found if result is None else backend.where(is_here, found, result)
    return result


def _take_exactly(
    backend: Backend, shards: Sequence[Array], known: Sequence[Any], classes: int, strategy: str, dtype: str
) -> Array:
    import numpy as np

    ids = np.concatenate([x.reshape(-1) for x in known])
    place, row = locate(dispatch.load("numpy"), ids, classes, len(shards), strategy)
    parts = [
        backend.astype(backend.take(shards[i], backend.asarray(row[place == i], like=shards[i])), dtype)
        for i in range(min(len(shards), classes))  # also shards that no id is in: their gradient is empty, not missing
    ]
    # From the order of the shards back to that of the ids.
    order = np.argsort(np.argsort(place, kind="stable"), kind="stable")
    return backend.take(backend.concat(parts, axis=0), backend.asarray(order, like=shards[0]))
