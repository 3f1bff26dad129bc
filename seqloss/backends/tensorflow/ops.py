"""TensorFlow: facts and primitives."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf

from seqloss.core.errors import LAYOUT_NEEDS_GRAPH, BackendError
from seqloss.core.protocol import Array, Location
from seqloss.core.shapes import Shape

_DENSE_FORMS = {tf.SparseTensor: "tf.sparse.to_dense({0})", tf.RaggedTensor: "{0}.to_tensor()"}


def owns(x: Any) -> bool:
    return isinstance(x, (tf.Tensor, tf.Variable, *_DENSE_FORMS)) or _is_weak(x)


def _is_weak(x: Any) -> bool:
    """Whether it is what TensorFlow, told to convert dtypes as NumPy does, makes of a Python number or a list."""
    return type(x).__module__ == "tensorflow.python.framework.weak_tensor"


def dense_form(x: Array) -> str | None:
    for kind, form in _DENSE_FORMS.items():
        if isinstance(x, kind):
            return form
    return None


def packed_form(x: Array) -> tuple[Array, Array, Callable[[Array], Array]] | None:
    if not isinstance(x, tf.RaggedTensor) or x.ragged_rank != 1:
        return None
    return x.values, x.row_splits, x.with_values


def shape(x: Array) -> Shape:
    return None if x.shape.rank is None else tuple(x.shape.as_list())


def dtype(x: Array) -> str:
    return x.dtype.name


def device(x: Array) -> None:
    return None


def location(x: Array) -> Location:
    # A tensor with values that a function closes over keeps them.
    if not hasattr(x, "numpy"):
        return "traced"
    if x.device.endswith("CPU:0"):
        return "host"
    return "traced" if _has_layout(x) else "device"


def _has_layout(x: Array) -> bool:
    """Whether it is a DTensor with values, which cannot be read. Few eager operations take one (TensorFlow 2.21)."""
    return ":CUSTOM:" in x.device


def needs_grad(x: Array) -> bool:
    # A tape may watch any tensor, and the tensor does not know.
    return x.dtype.is_floating


def is_stopped(x: Array) -> bool:
    """Known only in a graph, for what tf.stop_gradient returned. A tape may still watch that."""
    if not x.dtype.is_floating:
        return True
    if tf.executing_eagerly() or isinstance(x, tf.Variable) or hasattr(x, "numpy"):
        return False
    operation = x.op
    while operation.type == "Identity":
        operation = operation.inputs[0].op
    return bool(operation.type == "StopGradient")


def asarray(x: Any, *, like: Array | None = None) -> Array:
    # A tensor with values that a function closes over keeps them: its labels can be read while tracing.
    if not isinstance(x, tf.Tensor):
        x = x.to_tensor() if _is_weak(x) else tf.convert_to_tensor(x)
    if _has_layout(x) and tf.executing_eagerly():
        raise BackendError(LAYOUT_NEEDS_GRAPH)
    return x


def to_numpy(x: Array) -> Any:
    return x.numpy()


def sizes(x: Array) -> tuple[Any, ...]:
    known = x.shape.as_list()
    return tuple(tf.shape(x)[axis] if size is None else size for axis, size in enumerate(known))


def astype(x: Array, dtype: str) -> Array:
    return tf.cast(x, dtype)


def arange(stop: int, *, like: Array) -> Array:
    return tf.range(stop)


def ones_like(x: Array, *, dtype: str) -> Array:
    return tf.ones_like(x, dtype=dtype)


def reshape(x: Array, shape: Sequence[Any]) -> Array:
    return tf.reshape(x, shape)


def expand_dims(x: Array, *, axis: int) -> Array:
    return tf.expand_dims(x, axis)


def where(condition: Array, x1: Array | float, x2: Array | float) -> Array:
    # A Python number first would be given a dtype of its own before the other is looked at (TensorFlow 2.21).
    if isinstance(x1, (int, float)):
        x1 = tf.constant(x1, x2.dtype)  # type: ignore[union-attr]  # one of the two is an array
    return tf.where(condition, x1, x2)


def nan_unless(condition: Array, x: Array) -> Array:
    # A constant NaN would be found by tf.debugging.enable_check_numerics; this is sqrt(-1), only where NaN is wanted.
    return tf.where(condition, x, tf.sqrt(tf.cast(condition, x.dtype) - 1))


def equal(x1: Array, x2: Array | float) -> Array:
    return tf.equal(x1, x2)


def isfinite(x: Array) -> Array:
    return tf.math.is_finite(x)


def sum(x: Array, *, axis: tuple[int, ...], dtype: str | None = None) -> Array:
    return tf.reduce_sum(x if dtype is None else tf.cast(x, dtype), axis)


def min(x: Array, *, axis: tuple[int, ...]) -> Array:
    return tf.reduce_min(x, axis)


def count_nonzero(x: Array, *, axis: tuple[int, ...]) -> Array:
    return tf.math.count_nonzero(x, axis)


def all(x: Array, *, axis: int) -> Array:
    return tf.reduce_all(x, axis)


def surely_all(x: Array) -> bool:
    return location(x) == "host" and bool(np.asarray(x).all())


def stop_gradient(x: Array) -> Array:
    return tf.stop_gradient(x)


def permute_dims(x: Array, axes: Sequence[int]) -> Array:
    return tf.transpose(x, axes)


def concat(arrays: Sequence[Array], *, axis: int) -> Array:
    return tf.concat(arrays, axis)


def log(x: Array) -> Array:
    return tf.math.log(x)


def exp(x: Array) -> Array:
    return tf.math.exp(x)


def take(x: Array, indices: Array) -> Array:
    return tf.gather(x, indices)


def scope(name: str | None) -> AbstractContextManager[Any]:
    return nullcontext() if name is None else tf.name_scope(name)


def with_rank(x: Array, rank: int) -> Array:
    return tf.ensure_shape(x, [None] * rank)


def sizes_agree(arrays: Sequence[Array], message: str) -> tuple[Array, list[Array]]:
    agree = tf.constant(True)
    for other in arrays[1:]:
        sizes = tf.shape(other)
        leading = tf.shape(arrays[0])[: tf.size(sizes)]
        agree &= tf.equal(tf.size(leading), tf.size(sizes)) & tf.reduce_all(tf.equal(leading, sizes))
    assertion = tf.debugging.Assert(agree, [message])
    with tf.control_dependencies([] if assertion is None else [assertion]):
        return tf.identity(agree), [tf.identity(x) for x in arrays]


def broadcast_like(x: Array, like: Array, message: str) -> tuple[Array | None, Array]:
    agree, sizes = None, tf.shape(like)
    if not (x.shape.rank == 0 or (x.shape.is_fully_defined() and like.shape.is_fully_defined())):
        own = tf.shape(x)
        same_rank = tf.equal(tf.size(own), tf.size(sizes))
        # Of the sizes of another rank nothing can be said, and the comparison must not fail by itself.
        leading = tf.where(same_rank, tf.size(own), 0)
        fits = tf.reduce_all(tf.equal(own[:leading], sizes[:leading]) | tf.equal(own[:leading], 1))
        agree = tf.equal(tf.size(own), 0) | (same_rank & fits)
        assertion = tf.debugging.Assert(agree, [message])
        with tf.control_dependencies([] if assertion is None else [assertion]):
            x = tf.identity(x)
    return agree, tf.ensure_shape(tf.broadcast_to(x, sizes), like.shape)


def vjp(function: Callable[[Array], Array], x: Array) -> tuple[Array, Callable[[Array], Array]]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value = function(x)

    def pull(cotangent: Array) -> Array:
        return tape.gradient(value, x, cotangent, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return value, pull
