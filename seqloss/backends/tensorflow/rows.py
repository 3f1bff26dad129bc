"""TensorFlow: sums over rows of logits, for XLA.

XLA fuses what surrounds a reduction into it, but a loop along the reduced axis, above all one with a mask, is slow.
"""

import tensorflow as tf

from seqloss.core.protocol import Array

_PARTS, _STRIPS = 4, 8
"""What XLA cuts the class axis into, and each part again; see :func:`_sum_of_strips`."""

WORTH_STRIPS = 512
"""Classes from which on that is faster than a mask."""

_MOST = 256
"""Numbers that are added up one after the other."""


def rest_of_strips(z: Array, index: Array, shift: Array) -> Array:
    """The same for XLA, which keeps a small part of it at a time."""
    classes = z.shape.as_list()[-1]
    width = classes // (_PARTS * _STRIPS)
    size = width * _STRIPS
    rest = sum_without(z[:, _PARTS * size :], tf.range(_PARTS * size, classes), index, shift)
    for part in range(_PARTS):
        # Adds nothing, but lets no part begin before the one before it has given its memory back.
        after = shift + tf.stop_gradient(rest * 0)[:, None]
        rest += _sum_of_strips(z, part * size, width, index, after)
    return rest


def _sum_of_strips(z: Array, first: int, width: int, index: Array, shift: Array) -> Array:
    """The part of it from the first class on: each goes to one of ``width`` columns, and those are added up.

    So the exponentials are in a loop along neighbouring classes, which is vectorised, and the target is in one column
    alone, which is added up anew without it.
    """
    starts = [first + width * i for i in range(_STRIPS)]
    strips = [exp_of_difference(z[:, start : start + width], shift, True) for start in starts]
    while len(strips) > 1:
        strips = [one + other for one, other in zip(strips[::2], strips[1::2], strict=True)]
    column = (index - first) % width
    mates = column[:, None] + tf.constant(starts)
    own = sum_without(tf.gather(z, mates, batch_dims=1), mates, index, shift)
    # Put there, not selected: a selection would be fused with all that came before into the sums below.
    sums = put(strips[0], column, own)
    # Folded first, so that no number is added to thousands of others one by one. (XLA makes one of several reductions.)
    while width > _MOST:
        half = (width + 1) // 2
        sums = sums[:, :half] + tf.pad(sums[:, half:], [[0, 0], [0, 2 * half - width]])
        width = half
    return tf.reduce_sum(sums, -1)


def sum_without(z: Array, classes: Array, index: Array, shift: Array) -> Array:
    """The sum of ``exp(z - shift)`` over these classes but the one at the index."""
    e = exp_of_difference(z, shift, True)
    return tf.reduce_sum(tf.where(tf.equal(classes, index[:, None]), tf.zeros_like(e), e), -1)


def exp_of_difference(z: Array, shift: Array, compiled: bool) -> Array:
    """``exp(z - shift)``. The rounding error of the difference is heeded where that costs no pass over memory."""
    difference = z - shift
    e = tf.exp(difference)
    if not compiled:
        return e
    # What the subtraction took from z and from shift, each less what it should have been: exact, as Knuth proved.
    taken = difference - z
    error = (z - (difference - taken)) - (shift + taken)
    return e + e * tf.stop_gradient(tf.where(tf.math.is_finite(difference), error, tf.zeros_like(error)))


def put(x: Array, index: Array, values: Array) -> Array:
    """``x`` [rows, columns] with one value for each row, at the column that the index names."""
    return tf.tensor_scatter_nd_update(x, tf.stack([tf.range(tf.shape(index)[0]), index], -1), values)
