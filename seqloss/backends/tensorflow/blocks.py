"""TensorFlow: rows of logits, and sums along the classes.

What is fast depends on who runs the graph. The executor of TensorFlow 2.21 runs one operation after the other, so few
of them should be as large as the logits, and it is fast at putting one number per row into an array. Its XLA fuses the
operations around a reduction into it, but a loop along the reduced axis, above all one with a mask, is slow.
"""

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from seqloss.backends.tensorflow.numbers import exp_of_difference, power_of_two
from seqloss.core.protocol import Array

_PARTS, _STRIPS = 4, 8
"""What XLA cuts the class axis into, and each part again; see :func:`_sums_of_strips`."""

_WORTH_STRIPS = 512
"""Classes from which on that is faster than a mask."""

_MOST = 256
"""Numbers that are added up one after the other."""

_EXACTLY = 2.0**18
"""This many float64 numbers add up without an error, once they are cut to a grid."""


def is_compiled() -> bool:
    """Whether what is being traced is for XLA. Only ``jit_compile=True`` is seen, and only speed depends on it."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        context = graph._get_control_flow_context()
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False


def as_rows(x: Array) -> Array:
    """``x`` as [tokens, classes], so that an unknown rank is no obstacle."""
    rows = tf.reshape(x, [-1, tf.shape(x)[-1]])
    return rows if x.shape.rank is None else tf.ensure_shape(rows, [None, x.shape[-1]])


def like(x: Array, other: Array) -> Array:
    """``x`` in the shape of another array."""
    return tf.ensure_shape(tf.reshape(x, tf.shape(other)), other.shape)


def filled(x: Array, where: Array | None, value: float) -> Array:
    """Numbers per token as [tokens], with another value in some places."""
    x = tf.reshape(x, [-1])
    return x if where is None else tf.where(where, tf.constant(value, x.dtype), x)


def idle_rows(cotangents: Sequence[Array | None], active: Array | None) -> tuple[Array, Array | None]:
    """Where all cotangents are 0; and where a token is not active, None if all are."""
    zeros = [tf.equal(tf.reshape(x, [-1]), 0) for x in cotangents if x is not None]
    skipped = None if active is None else ~tf.reshape(active, [-1])
    idle = functools.reduce(tf.logical_and, zeros)
    return idle if skipped is None else idle | skipped, skipped


def kept(x: Array, rows: Array, compiled: bool) -> Array:
    """The rows that are wanted, and zeros in the place of others, whatever they hold."""
    if compiled:
        return tf.where(rows[:, None], x, tf.zeros_like(x))
    return tf.math.multiply_no_nan(x, tf.cast(rows, x.dtype)[:, None])


def put(x: Array, index: Array, values: Array) -> Array:
    """``x`` [rows, columns] with one value for each row, at the column that the index names."""
    return tf.tensor_scatter_nd_update(x, tf.stack([tf.range(tf.shape(index)[0]), index], -1), values)


def without(z: Array, index: Array, compiled: bool) -> tuple[Array, Array]:
    """Logits with nothing above the others in the place of the one at the index; and the largest of the others.

    That is the smallest finite number where no other is possible.
    """
    least = tf.constant(z.dtype.min, z.dtype)  # people who look for the first infinity would find this one
    if not compiled:
        z = put(z, index, tf.fill(tf.shape(index), least))
        return z, tf.stop_gradient(tf.maximum(tf.reduce_max(z, -1), least))
    others = tf.where(tf.equal(tf.range(tf.shape(z)[-1]), index[:, None]), least, z)
    highest = tf.stop_gradient(tf.maximum(tf.reduce_max(others, -1), least))
    return tf.minimum(z, highest[:, None]), highest


def rest(z: Array, index: Array, shift: Array, good: Array, compiled: bool) -> Array:
    """The sum of ``exp(z - shift)`` over all classes but the one at the index.

    In float64, and where it is at least 1, no order of the classes changes a bit of it. ``good`` are rows that matter.
    """
    grid = _grid(z, good)
    classes = z.shape.as_list()[-1]  # where TensorFlow behaves as version 1, an entry of a shape is no number
    if compiled and classes is not None and classes >= _WORTH_STRIPS:
        parts = _rest_of_strips(z, index, shift[:, None], grid)
    elif compiled:
        parts = _sums_without(z, tf.range(tf.shape(z)[-1]), index, shift[:, None], grid)
    else:
        e = put(exp_of_difference(z, shift[:, None], False), index, tf.zeros_like(shift))
        parts = [tf.reduce_sum(x, -1) for x in _cut(e, grid)]
    return parts[0] if grid is None else parts[0] + parts[1]


def total(x: Array, compiled: bool) -> Array:
    """The sum of each row, in which no number is added to thousands of others one by one."""
    width = x.shape.as_list()[-1] if compiled else None
    while width is not None and width > _MOST:
        half = (width + 1) // 2
        x = x[:, :half] + tf.pad(x[:, half:], [[0, 0], [0, 2 * half - width]])
        width = half
    return tf.reduce_sum(x, -1)


def _grid(z: Array, good: Array) -> Array | None:
    """What cuts numbers up to 1 to a grid when it is added and taken away again; None for float32.

    Only where no row matters it is another: the graph optimiser and XLA (TensorFlow 2.21) would drop both steps if it
    were known when they run.
    """
    if z.dtype != tf.float64:
        return None
    classes = tf.cast(tf.shape(z)[-1], tf.float64)
    count = tf.maximum(2 * power_of_two(classes - 1), tf.constant(_EXACTLY, tf.float64))
    return tf.where(tf.reduce_any(good), count, 2 * count) * 1.5


def _cut(e: Array, grid: Array | None) -> list[Array]:
    """Terms of a sum: with a grid what lies on it, and what is left."""
    if grid is None:
        return [e]
    high = (e + grid) - grid
    return [high, e - high]


def _rest_of_strips(z: Array, index: Array, shift: Array, grid: Array | None) -> list[Array]:
    """The same for XLA, which keeps a small part of it at a time."""
    classes = z.shape.as_list()[-1]
    width = classes // (_PARTS * _STRIPS)
    size = width * _STRIPS
    sums = _sums_without(z[:, _PARTS * size :], tf.range(_PARTS * size, classes), index, shift, grid)
    for part in range(_PARTS):
        # It adds nothing, but makes XLA (TensorFlow 2.21) start each part only after the previous one has freed its
        # memory.
        after = shift + tf.stop_gradient(sums[0] * 0)[:, None]
        more = _sums_of_strips(z, part * size, width, index, after, grid)
        sums = [one + other for one, other in zip(sums, more, strict=True)]
    return sums


def _sums_of_strips(z: Array, first: int, width: int, index: Array, shift: Array, grid: Array | None) -> list[Array]:
    """The part of it from the first class on: each goes to one of ``width`` columns, and those are added up.

    So the exponentials are in a loop along neighbouring classes, which is vectorised, and the target is in one column
    only, which is added up again without it.
    """
    starts = [first + width * i for i in range(_STRIPS)]
    exponentials = [exp_of_difference(z[:, start : start + width], shift, True) for start in starts]
    column = (index - first) % width
    mates = column[:, None] + tf.constant(starts)
    own = _sums_without(tf.gather(z, mates, batch_dims=1), mates, index, shift, grid)
    sums = []
    for strips, value in zip(zip(*(_cut(e, grid) for e in exponentials), strict=True), own, strict=True):
        columns: Any = list(strips)
        while len(columns) > 1:
            columns = [one + other for one, other in zip(columns[::2], columns[1::2], strict=True)]
        # Put there, not selected: a selection would be fused with all that came before into the sums below.
        # Folded then by total, because XLA makes one reduction of several. (Both in TensorFlow 2.21.)
        sums.append(total(put(columns[0], column, value), True))
    return sums


def _sums_without(z: Array, classes: Array, index: Array, shift: Array, grid: Array | None) -> list[Array]:
    """The sum of ``exp(z - shift)`` over these classes but the one at the index."""
    e = exp_of_difference(z, shift, True)
    e = tf.where(tf.equal(classes, index[:, None]), tf.zeros_like(e), e)
    return [tf.reduce_sum(x, -1) for x in _cut(e, grid)]
