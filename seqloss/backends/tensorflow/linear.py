"""TensorFlow: the loss of hidden states and a kernel, chunk by chunk. The rules are those of ``seqloss.core.linear``.

A few chunks are written out, one after the other: XLA (TensorFlow 2.21) takes nearly twice as long for a loop. Many
chunks, and a number of tokens that is unknown while tracing, are a loop. Eager tensors on the CPU go to NumPy.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from seqloss.backends import chunks
from seqloss.core.linear import NUMBERS, ROWS, LinearFound, LinearSpec, Step, Tokens
from seqloss.core.protocol import Array

_WRITTEN_OUT = 8
"""So many chunks."""

_NUMBERS = 1 << 21
"""Of a product that is added to something: 8 MiB in float32."""


def linear(
    step: Step,
    hidden: Array,
    kernel: Array,
    bias: Array | None,
    of_tokens: Tokens,
    spec: LinearSpec,
) -> LinearFound:
    import seqloss.backends.tensorflow as backend

    x, tokens, count = chunks.flat(backend, hidden, of_tokens)
    classes = kernel.shape[1] if kernel.shape.rank else None
    if isinstance(count, int) and (classes is not None or spec.chunk is not None):
        size = spec.size(count, classes or 1)
        is_short = count <= _WRITTEN_OUT * size
    else:
        size, is_short = _open_size(spec, count, tf.shape(kernel)[1]), False
    found = (_written_out if is_short else _loop)(backend, step, x, kernel, bias, tokens, spec, count, size)
    return chunks.unflat(backend, hidden, found)


def _open_size(spec: LinearSpec, count: Any, classes: Array) -> Array:
    """:meth:`LinearSpec.size` of numbers that are not known while tracing."""
    most = tf.maximum(ROWS, NUMBERS // tf.maximum(classes, 1)) if spec.chunk is None else spec.chunk
    chunks_of_most = tf.maximum((count + most - 1) // most, 1)
    return tf.maximum((count + chunks_of_most - 1) // chunks_of_most, 1)


def _written_out(
    backend: Any,
    step: Step,
    x: Array,
    kernel: Array,
    bias: Array | None,
    tokens: Tokens,
    spec: LinearSpec,
    count: int,
    size: int,
) -> LinearFound:
    before: list[Array] = []
    parts, totals = [], [None, None]
    for start in range(0, max(count, 1), size):
        # Chained, so that no two chunks are at work at once.
        with tf.control_dependencies(before):
            piece, part = _sliced(x, tokens, start, min(start + size, count))
            one = chunks.of_chunk(backend, step, piece, kernel, bias, part, spec)
        totals = [b if a is None else chunks.plus(a, b) for a, b in zip(totals, one[2:], strict=True)]
        parts.append(one)
        before = [y for y in (*one.outputs, one.hidden, *totals) if y is not None]
    outputs = tuple(tf.concat(y, 0) for y in zip(*[one.outputs for one in parts], strict=True))
    to_hidden = None if parts[0].hidden is None else tf.concat([one.hidden for one in parts], 0)
    return LinearFound(outputs, to_hidden, *totals)


def _sliced(x: Array, tokens: Tokens, start: Any, stop: Any) -> tuple[Array, Tokens]:
    # Identities, so that what is made of them waits for what comes before.
    return tf.identity(x)[start:stop], Tokens(*[None if a is None else tf.identity(a)[start:stop] for a in tokens])


def _loop(
    backend: Any,
    step: Step,
    x: Array,
    kernel: Array,
    bias: Array | None,
    tokens: Tokens,
    spec: LinearSpec,
    count: Any,
    size: Any,
) -> LinearFound:
    """A while loop over chunks of one size: behind the last token are some without a cotangent."""
    number = tf.maximum((count + size - 1) // size, 1)

    def apart(a: Array | None) -> Any:
        if a is None:
            return None
        a = tf.pad(a, [[0, number * size - count], *([0, 0] for _ in a.shape[1:])])
        return tf.reshape(a, tf.concat([[number, size], tf.shape(a)[1:]], 0))

    x, tokens = apart(x), Tokens(*[apart(a) for a in tokens])
    nothing = chunks.of_chunk(backend, step, x[0, :0], kernel, bias, Tokens(*_at(tokens, 0, slice(0))), spec)
    rows = [*nothing.outputs, *([] if nothing.hidden is None else [nothing.hidden])]
    arrays = [tf.TensorArray(y.dtype, number, element_shape=[None, *y.shape[1:]]) for y in rows]
    totals = [
        tf.zeros_like(a, spec.dtype) for a, y in ((kernel, nothing.kernel), (bias, nothing.bias)) if y is not None
    ]

    def body(i: Array, arrays: list[Any], totals: list[Array]) -> tuple[Array, list[Any], list[Array]]:
        one = chunks.of_chunk(backend, step, x[i], kernel, bias, Tokens(*_at(tokens, i)), spec)
        rows = [*one.outputs, *([] if one.hidden is None else [one.hidden])]
        arrays = [a.write(i, y) for a, y in zip(arrays, rows, strict=True)]
        added = [y for y in (one.kernel, one.bias) if y is not None]
        return i + 1, arrays, [a + b for a, b in zip(totals, added, strict=True)]

    start = tf.zeros_like(number)
    _, arrays, totals = tf.while_loop(
        lambda i, *_: i < number, body, [start, arrays, totals], parallel_iterations=1, maximum_iterations=number
    )
    outputs = [
        tf.reshape(a.stack(), tf.concat([[number * size], tf.shape(y)[1:]], 0))[:count]
        for a, y in zip(arrays, rows, strict=True)
    ]
    rest = iter(totals)
    to_kernel, to_bias = (None if y is None else next(rest) for y in (nothing.kernel, nothing.bias))
    of_tokens = outputs[: len(nothing.outputs)]
    return LinearFound(tuple(of_tokens), None if nothing.hidden is None else outputs[-1], to_kernel, to_bias)


def _at(tokens: Tokens, i: Any, rows: slice = slice(None)) -> list[Any]:
    """The arrays of a chunk."""
    return [None if a is None else a[i][rows] for a in tokens]


def matmul(a: Array, b: Array, *, dtype: str) -> Array:
    return tf.matmul(tf.cast(a, dtype), tf.cast(b, dtype))


class Products:
    """The products of TensorFlow, in its threads, on the memory of NumPy arrays."""

    def __init__(self, memory: Any) -> None:
        self._memory = memory

    def product(self, a: Any, b: Any, out: Any) -> Any:
        return np.asarray(_Writable(self._made(a, b)))

    def add_product(self, total: Any, a: Any, b: Any) -> None:
        if not total.flags.c_contiguous:
            total, a, b = total.T, b.T, a.T
        # Some rows at a time: TensorFlow (2.21) has no product that adds to something, and makes a new array for each.
        size = max(32, _NUMBERS // max(1, total.shape[1]))
        for start in range(0, len(total), size):
            rows = slice(start, start + size)
            total[rows] += self._made(a[rows], b)

    def _made(self, a: Any, b: Any) -> Any:
        """The product of arrays of which each is in the order of its rows, or of its columns."""
        is_turned = [not x.flags.c_contiguous and x.flags.f_contiguous for x in (a, b)]
        x, y = (self._placed(x.T if turned else x) for x, turned in zip((a, b), is_turned, strict=True))
        return self._memory.to_host(tf.matmul(x, y, transpose_a=is_turned[0], transpose_b=is_turned[1]))

    def _placed(self, x: Any) -> Any:
        # DLPack takes no array that says it must not be written into.
        return self._memory.from_host(x if x.flags.writeable else np.asarray(_Writable(x)), x.dtype.name, None)


class _Writable:
    """The memory of an array of which NumPy says that it must not be written into: that of a tensor is so.

    Nobody else has a tensor that was just made.
    """

    def __init__(self, x: Any) -> None:
        self._x = x
        (address, _), facts = x.__array_interface__["data"], x.__array_interface__
        self.__array_interface__ = {**facts, "data": (address, False)}
