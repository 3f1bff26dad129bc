"""JAX: sums over the classes whose rounding errors do not grow, also without one class of each row.

XLA (jax 0.10.2) does not vectorise a reduction with a mask in it. So to leave a logit out, only the maximum and the sum
of its block are computed a second time, without it. Blocks consist of neighbours if their size divides the classes;
otherwise, if possible, of entries that lie apart.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from seqloss.core.protocol import Array

_FEW = 64
"""Up to this many classes are compared and added up without blocks."""

_LONG = 2**12
"""From this many classes on, blocks are made before the exponentials, so that XLA (jax 0.10.2) vectorises them.

The exponentials are then taken again for the gradient. That takes no longer than to keep them, and a loss without a
gradient takes a third of the time.
"""

LOWEST = -87.0
"""The exponent of the smallest power that is distinguished from 0."""

_SMALL = 2.0**-30
"""Sums of blocks are multiplied by this, so that no sum of them is infinite."""

_PARTS = 16
"""A multiple of the usual numbers of devices that classes are sharded over.

For two sums at a time along a sharded axis XLA (jax 0.10.2) gathers what each device has. So the axis is split into
this many parts, which are added up at the end.
"""

_in_a_step_of_its_own: Callable[[Array], Array] = jax.lax.optimization_barrier


def total(x: Array) -> Array:
    """The sum over the last axis by blocks of blocks: XLA (jax 0.10.2) may add up the numbers one after the other."""
    while x.shape[-1] > 32:
        # XLA (jax 0.10.2) would make one long sum of the last two.
        x = _in_a_step_of_its_own(_blocks(x, jnp.sum, jax.lax.add, 0))
    return jnp.sum(x, axis=-1)


def highest_without(z: Array, index: Array) -> Array:
    """The largest entry of the last axis, without the one at the index; -inf if there is no other."""
    if z.shape[-1] < _FEW:
        return jnp.max(jnp.where(at(index, z), -jnp.inf, z), axis=-1)
    window, masked = _window(z, index)
    again = jnp.max(jnp.where(masked, -jnp.inf, window), axis=-1)
    blocks = _blocks(z, jnp.max, jax.lax.max, -np.inf)
    return jnp.max(put(blocks, _block_of(index, z.shape[-1]), again), axis=-1)


def powers(z: Array, highest: Array, marked: bool = False) -> tuple[Array, Array, Array]:
    """``exp(z - highest)``, or 1 above it, in three factors; the second and the third are one number per row.

    It is written the same way wherever it is needed, so that XLA takes the exponentials of a program once: the first
    pass over the classes adds them up, and the second makes the gradient of them. The third factor is a divisor in [1,
    2). The second is a power of 2, so it rounds nothing. With the mark, in float32 only an impossible class has the
    power 0, so such classes can be found without the logits.
    """
    pivot, axes = _pivot(highest), (*range(highest.ndim, z.ndim),)
    top, near = (jnp.expand_dims(x, axes) for x in (highest, pivot))
    d = jnp.minimum(z, top) - near
    if marked and z.dtype != jnp.float64:
        d = jnp.where(d > -jnp.inf, jnp.maximum(d, LOWEST), d)
    e = jnp.exp(d)
    if z.dtype == jnp.float64:
        return e, jnp.ones_like(highest), jnp.ones_like(highest)
    # The power of the highest logit as it was computed, so that its errors cancel.
    own = jnp.exp(highest - pivot)
    bits = jax.lax.bitcast_convert_type(own, jnp.int32)
    near = 1 / jax.lax.bitcast_convert_type(bits & 0x7F800000, jnp.float32)
    return e, near, own * near


def powers_without(z: Array, index: Array, own: Array, highest: Array, marked: bool) -> Array:
    """The sum of ``exp(z_j - highest)`` over the last axis, without the entry at the index, ``own``.

    This entry may be above all others. Its block is added up a second time without it: to subtract it from the sum of
    all would leave its rounding errors. In float64 there are none, and the sum is the same bits in every order.
    """
    if z.dtype == jnp.float64:
        own = jnp.exp(jnp.minimum(own, highest) - highest)
        return total_in_any_order(powers(z, highest)[0], own)
    e, near, far = powers(z, highest, marked)
    if z.shape[-1] < _FEW:
        return jnp.sum(jnp.where(at(index, z), 0, e), axis=-1) * near / far
    size = _columns(z.shape[-1])
    if z.shape[-1] >= _LONG and size is not None:
        blocks = jnp.sum(powers(_apart(z, size), highest, marked)[0], axis=-2)
    else:
        blocks = _blocks(e, jnp.sum, jax.lax.add, 0)
    window, masked = _window(z, index)
    again = jnp.sum(powers(jnp.where(masked, -jnp.inf, window), highest)[0], axis=-1)
    blocks = put(blocks, _block_of(index, z.shape[-1]), again)
    return total(blocks * _SMALL) * (near / _SMALL) / far


def _pivot(highest: Array) -> Array:
    """The number that is subtracted from logits before the exponential.

    In float32 it is an integer, and 0 where the highest is between 0 and 85. Differences from it are exact except for
    logits 84 below the highest, which hardly count. 32 numbers of ``exp(85)`` do not add up to infinity. It is the
    highest itself where that is so large that subtracting 84 would round.
    """
    if highest.dtype == jnp.float64:
        return highest
    whole = jnp.floor(highest)
    return jnp.where(abs(whole) < 2**22, jnp.minimum(whole, 0) + jnp.maximum(whole - 84, 0), whole)


def total_in_any_order(e: Array, without: Array | float = 0.0) -> Array:
    """The sum over the last axis of float64 numbers from 0 to 1, without one of them; one of the others is 1.

    It uses ``rint`` instead of adding and subtracting a large number, which XLA (jax 0.10.2) folds if the number is
    constant. The multiples of a power of 2 are the same, and their sum is an integer so small that no order of addition
    rounds it.
    """
    scale = 2.0 ** (52 - max(18, (e.shape[-1] - 1).bit_length()))
    (coarse, fine), (own, own_fine) = totals(_parts, e * scale), _parts(without * scale)
    return ((coarse - own) + (fine - own_fine)) / scale


def at(index: Array, z: Array) -> Array:
    """Where the last axis is at the index."""
    return jax.lax.broadcasted_iota(index.dtype, z.shape, z.ndim - 1) == index[..., None]


def put(z: Array, index: Array, values: Array) -> Array:
    """``z`` with other entries at the index.

    Row by row, so that explicitly sharded rows stay where they are (jax 0.10.2).
    """

    def put(z: Array, index: Array, value: Array) -> Array:
        return z.at[index].set(value, mode="promise_in_bounds")

    for _ in range(index.ndim):
        put = jax.vmap(put)
    return put(z, index, values)


# --- blocks of the last axis -----------------------------------------------------------------------------------------


def _columns(count: int) -> int | None:
    """The number of entries in a block of those that lie apart; None if none divides, or others are better.

    Up to 16, because XLA (jax 0.10.2) unrolls no more.
    """
    if count < _LONG and _neighbours(count, 32):
        return None
    return next((size for size in range(16, 3, -1) if count % size == 0), None)


def _neighbours(count: int, most: int) -> int | None:
    """The size of blocks of neighbours of which each device has equally many; None if there is none.

    Multiples of 16, because XLA (jax 0.10.2) vectorises others less.
    """
    return next((size for size in range(most, 15, -16) if count % (size * _PARTS) == 0), None)


def _width(count: int) -> int:
    """The number of entries in a block of neighbours, which serves where no number of columns divides."""
    return _neighbours(count, 32) or (16 if count <= 4096 else 32)


def _apart(x: Array, size: int) -> Array:
    """The last axis as two axes: blocks of this many entries along the first of them, which are not neighbours."""
    return x.reshape(*x.shape[:-1], size, x.shape[-1] // size)


def _blocks(x: Array, reduce: Callable[..., Array], combine: Callable[..., Array], start: float) -> Array:
    """Each block reduced to one number. With neighbours the last block may be shorter."""
    count = x.shape[-1]
    size = _columns(count)
    if size is not None:
        return reduce(_apart(x, size), axis=-2)
    size, ones = _width(count), (1,) * (x.ndim - 1)
    if count % size == 0:
        return reduce(x.reshape(*x.shape[:-1], count // size, size), axis=-1)
    padding = [*((0, 0) for _ in ones), (0, -count % size)]
    return jax.lax.reduce_window(x, np.array(start, x.dtype), combine, (*ones, size), (*ones, size), padding)


def totals(
    terms: Callable[..., tuple[Array, Array]], x: Array, of_classes: tuple[Array | None, ...] = (), *rows: Array
) -> tuple[Array, Array]:
    """The sums over the last axis of both terms, which are functions of ``(x, *of_classes, *rows)``, in one pass.

    Each of ``of_classes`` has one number for each entry of that axis, or is None; ``rows`` have one for each of the
    others.
    """
    count = x.shape[-1]
    size = 8 if count % 8 else 16 if count % 16 == 0 else _columns(count) or 8
    even = count // size * size
    parts = math.gcd(count // size, _PARTS)
    ones = (1,) * (x.ndim - 1)
    columns = [None if a is None else a.reshape(*ones, count) for a in of_classes]

    def found(at: slice, shape: Callable[[Array], Array], axes: tuple[int, ...]) -> tuple[Array, Array]:
        numbers = (jnp.expand_dims(a, axes) for a in rows)
        return terms(shape(x[..., at]), *(None if a is None else shape(a[..., at]) for a in columns), *numbers)

    def of_blocks(a: Array) -> Array:
        return a.reshape(*a.shape[:-1], parts, size, even // (parts * size))

    if even == 0:  # sharded arrays cannot be reshaped to blocks of nothing (jax 0.10.2)
        one, other = found(slice(None), lambda a: a, (-1,))
        return jnp.sum(one, axis=-1), jnp.sum(other, axis=-1)
    head = found(slice(even), of_blocks, (-3, -2, -1))
    tail = found(slice(even, None), lambda a: a, (-1,))
    zero, axis = np.zeros((), x.dtype), x.ndim

    def added(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        return a[0] + b[0], a[1] + b[1]

    blocks = (x.reshape(*x.shape[:-2], -1) for x in jax.lax.reduce(head, (zero, zero), added, [axis]))
    one, other = (total(block) + jnp.sum(part, axis=-1) for block, part in zip(blocks, tail, strict=True))
    return one, other


def _parts(x: Array) -> tuple[Array, Array]:
    """Numbers rounded to integers, and what is left of them."""
    coarse = jnp.rint(x)
    return coarse, x - coarse


def _block_of(index: Array, count: int) -> Array:
    """The block that holds the entry at the index."""
    size = _columns(count)
    return index // _width(count) if size is None else index % (count // size)


def _window(z: Array, index: Array) -> tuple[Array, Array]:
    """The entries of the block with the index, and which of them to leave out."""
    count = z.shape[-1]
    size, block = _columns(count), _block_of(index, count)[..., None]
    steps = jax.lax.broadcasted_iota(index.dtype, (*(1 for _ in index.shape), size or _width(count)), index.ndim)
    if size is not None:
        places = block + steps * (count // size)
        masked = places == index[..., None]
    else:
        # Where the last block is shorter, it also shows the end of the block before it, which is left out too.
        size = _width(count)
        first = block * size
        places = jnp.minimum(first, count - size) + steps
        masked = (places == index[..., None]) | (places < first)
    return jnp.take_along_axis(z, places, axis=-1, mode="promise_in_bounds"), masked
