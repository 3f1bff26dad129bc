"""JAX: sums over the classes whose rounding errors do not grow, and what is left of a row without one class.

XLA (jax 0.10.2) makes no vectors of a reduction with a mask in it. So a logit is left out of the maximum of its block
alone, which is taken a second time, and so is the sum of it. Where it divides the classes, blocks are of neighbours;
elsewhere, if possible, of entries that lie apart.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from seqloss.core.protocol import Array

_FEW = 64
"""So few classes are compared and added up without blocks."""

_LONG = 2**12
"""Of so many classes the sums are of blocks before the powers are taken, which XLA (jax 0.10.2) makes vectors of. So
they are taken again for the gradient. That takes no longer than to keep them, and a loss without a gradient a third."""

LOWEST = -87.0
"""The exponent of the smallest power that is told from 0."""

_SMALL = 2.0**-30
"""Sums of blocks are multiplied with this, so that no sum of them is infinite."""

_PARTS = 16
"""Devices that classes are often sharded over divide this. Of two sums at a time along a sharded axis XLA (jax 0.10.2)
gathers what each device has, so the axis becomes so many parts, which are added up at the end."""

_in_a_step_of_its_own: Callable[[Array], Array] = jax.lax.optimization_barrier


def total(x: Array) -> Array:
    """The sum over the last axis by blocks of blocks: XLA (jax 0.10.2) may add up one number after the other."""
    while x.shape[-1] > 32:
        # XLA (jax 0.10.2) would make one long sum of the last two.
        x = _in_a_step_of_its_own(_blocks(x, jnp.sum, jax.lax.add, 0))
    return jnp.sum(x, axis=-1)


def highest_without(z: Array, index: Array) -> Array:
    """The largest entry of the last axis but that at the index; -inf if there is no other."""
    if z.shape[-1] < _FEW:
        return jnp.max(jnp.where(at(index, z), -jnp.inf, z), axis=-1)
    window, masked = _window(z, index)
    again = jnp.max(jnp.where(masked, -jnp.inf, window), axis=-1)
    blocks = _blocks(z, jnp.max, jax.lax.max, -np.inf)
    return jnp.max(put(blocks, _block_of(index, z.shape[-1]), again), axis=-1)


def powers(z: Array, highest: Array, marked: bool = False) -> tuple[Array, Array, Array]:
    """``exp(z - highest)``, or 1 above it, in three factors: the second and the third are numbers of a row.

    Written alike wherever it is wanted, so that XLA takes the exponentials of a program once: the first pass over the
    classes adds them up, and the second makes the gradient of them. The third factor divides; it is at least 1 and
    below 2. The second is a power of 2, which rounds nothing. Marked, in float32 no power is 0 but that of an
    impossible class, which those who need it find without the logits.
    """
    pivot, axes = _pivot(highest), (*range(highest.ndim, z.ndim),)
    top, near = (jnp.expand_dims(x, axes) for x in (highest, pivot))
    d = jnp.minimum(z, top) - near
    if marked and z.dtype != jnp.float64:
        d = jnp.where(d > -jnp.inf, jnp.maximum(d, LOWEST), d)
    e = jnp.exp(d)
    if z.dtype == jnp.float64:
        return e, jnp.ones_like(highest), jnp.ones_like(highest)
    # The power of the highest as it was computed, so that its errors cancel.
    own = jnp.exp(highest - pivot)
    bits = jax.lax.bitcast_convert_type(own, jnp.int32)
    near = 1 / jax.lax.bitcast_convert_type(bits & 0x7F800000, jnp.float32)
    return e, near, own * near


def powers_without(z: Array, index: Array, own: Array, highest: Array, marked: bool) -> Array:
    """The sum of ``exp(z_j - highest)`` over the last axis but for the entry at the index, ``own``.

    It may be above all others. Its block is added up a second time without it: of the sum of all, what it counts would
    be taken away with its rounding errors. In float64 there are none, and no order changes a bit of the sum.
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
    """What is taken away from logits before the exponential.

    In float32 an integer, which is 0 where the highest is between 0 and 85: differences from it are exact but for
    logits 84 below the highest, of which next to nothing is left. No 32 numbers of ``exp(85)`` add up to infinity. The
    highest itself where it is so large that it less 84 would be rounded.
    """
    if highest.dtype == jnp.float64:
        return highest
    whole = jnp.floor(highest)
    return jnp.where(abs(whole) < 2**22, jnp.minimum(whole, 0) + jnp.maximum(whole - 84, 0), whole)


def total_in_any_order(e: Array, without: Array | float = 0.0) -> Array:
    """The sum over the last axis of float64 numbers from 0 to 1, but for one of them; one of the others is 1.

    ``rint`` in place of adding and taking away a large number, which XLA (jax 0.10.2) folds if that is a constant: the
    multiples of a power of 2 are the same, and their sum is an integer, so small that no order of addition rounds it.
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
    """The number of entries in a block of those that lie apart; None if none divides, or there are better blocks.

    Up to 16, because XLA (jax 0.10.2) writes no more of them out.
    """
    if count < _LONG and _neighbours(count, 32):
        return None
    return next((size for size in range(16, 3, -1) if count % size == 0), None)


def _neighbours(count: int, most: int) -> int | None:
    """The number of entries in a block of neighbours of which as many lie on each of the devices; None if none is so.

    Multiples of 16, because of others XLA (jax 0.10.2) makes fewer vectors.
    """
    return next((size for size in range(most, 15, -16) if count % (size * _PARTS) == 0), None)


def _width(count: int) -> int:
    """The number of entries in a block of neighbours, which serves where no number of columns divides."""
    return _neighbours(count, 32) or (16 if count <= 4096 else 32)


def _apart(x: Array, size: int) -> Array:
    """The last axis as two: blocks of so many entries along the first of them, none of which are neighbours."""
    return x.reshape(*x.shape[:-1], size, x.shape[-1] // size)


def _blocks(x: Array, reduce: Callable[..., Array], combine: Callable[..., Array], start: float) -> Array:
    """Each block reduced to one number. Of neighbours the last block may be shorter."""
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
        # Where the last block is shorter, the end of the one before it shows, and is left out too.
        size = _width(count)
        first = block * size
        places = jnp.minimum(first, count - size) + steps
        masked = (places == index[..., None]) | (places < first)
    return jnp.take_along_axis(z, places, axis=-1, mode="promise_in_bounds"), masked
