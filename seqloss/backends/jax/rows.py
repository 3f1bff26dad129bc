"""JAX: what is left of a row without its target, and sums whose rounding errors do not grow."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from seqloss.core.protocol import Array

_FEW = 64
"""So few numbers are added up one after the other, and so few classes compared without blocks."""


def total(x: Array) -> Array:
    """The sum over the last axis by blocks of blocks, because XLA may add up one number after the other."""
    while x.shape[-1] >= _FEW:
        x = _sums(x)
    return jnp.sum(x, axis=-1)


def highest_without(z: Array, index: Array) -> Array:
    """The largest entry of the last axis but that at the index; -inf if there is no other."""
    if z.shape[-1] < _FEW:
        return jnp.max(jnp.where(at(index, z), -jnp.inf, z), axis=-1)
    window, masked = _window(z, index)
    again = jnp.max(jnp.where(masked, -jnp.inf, window), axis=-1)
    return jnp.max(_replaced(_blocks(z, jnp.max, jax.lax.max, -np.inf), z, index, again), axis=-1)


def powers_without(z: Array, index: Array, pivot: Array) -> Array:
    """The sum of ``exp(z_j - pivot)`` over the last axis but that at the index, where it may overflow."""
    if z.shape[-1] < _FEW:
        return jnp.sum(jnp.where(at(index, z), 0, jnp.exp(z - pivot[..., None])), axis=-1)
    window, masked = _window(z, index)
    again = total(jnp.where(masked, 0, jnp.exp(window - pivot[..., None])))
    pivot = jnp.expand_dims(pivot, (-1, -2) if z.shape[-1] % _size(z) == 0 else -1)
    return total(_replaced(_sums(z, lambda x: jnp.exp(x - pivot)), z, index, again))


def at(index: Array, z: Array) -> Array:
    """Where the last axis is at the index."""
    return jax.lax.broadcasted_iota(index.dtype, z.shape, z.ndim - 1) == index[..., None]


# --- blocks of the last axis -----------------------------------------------------------------------------------------
#
# XLA does not vectorise a reduction with a mask in it. So all blocks are reduced without one, and the block with the
# index a second time with one.


def _size(x: Array) -> int:
    """The number of entries in a block; at least four blocks.

    A divisor, because XLA sees through a reshape and copies what it has to cut off; without one, blocks are windows.
    """
    count = x.shape[-1]
    few = count <= 4096  # where XLA adds up one number after the other in blocks too
    largest = min(32 if few else 512, count // 4)
    return next((size for size in range(largest, 15, -1) if count % size == 0), 16 if few else 64)


def _blocks(
    x: Array,
    reduce: Callable[..., Array],
    combine: Callable[..., Array],
    start: float,
    function: Callable[[Array], Array] = lambda x: x,
) -> Array:
    """``function(x)``, each block reduced to one number. The last one may be shorter."""
    size, outer, count = _size(x), x.shape[:-1], x.shape[-1]
    if count % size == 0:
        return reduce(function(x.reshape(*outer, count // size, size)), axis=-1)
    window = (*(1 for _ in outer), size)
    padding = [*((0, 0) for _ in outer), (0, -count % size)]
    return jax.lax.reduce_window(function(x), np.array(start, x.dtype), combine, window, window, padding)


def _sums(x: Array, function: Callable[[Array], Array] = lambda x: x) -> Array:
    return _blocks(x, jnp.sum, jax.lax.add, 0, function)


def _window(z: Array, index: Array) -> tuple[Array, Array]:
    """The entries of the block with the index, and which of them to leave out."""
    size = _size(z)
    first = index // size * size
    # Where the last block is shorter, the end of the one before it shows, and is left out too.
    steps = jax.lax.broadcasted_iota(index.dtype, (*(1 for _ in index.shape), size), index.ndim)
    places = jnp.minimum(first, z.shape[-1] - size)[..., None] + steps
    masked = (places == index[..., None]) | (places < first[..., None])
    return jnp.take_along_axis(z, places, axis=-1, mode="promise_in_bounds"), masked


def _replaced(reduced: Array, z: Array, index: Array, again: Array) -> Array:
    """The reduced blocks with another result for that with the index."""
    return jnp.where(at(index // _size(z), reduced), again[..., None], reduced)
