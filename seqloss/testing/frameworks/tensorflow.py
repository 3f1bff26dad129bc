"""TensorFlow: arrays, and the ways to run and differentiate a function."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf

from seqloss.testing.frameworks.capabilities import Capabilities

name = "tensorflow"
DTYPES = ("float32", "float64", "float16", "bfloat16")
CAN = Capabilities(DTYPES)


def array(x: Any, dtype: str | None = None) -> Any:
    result = tf.constant(np.array(x))
    return result if dtype is None else tf.cast(result, dtype)


def to_numpy(x: Any) -> Any:
    return (tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x).numpy()


def dtype(x: Any) -> str:
    return x.dtype.name


def is_array(x: Any) -> bool:
    return isinstance(x, tf.Tensor)


def dense(x: Any) -> Any:
    return tf.convert_to_tensor(x) if isinstance(x, tf.IndexedSlices) else x


def transposed(x: Any) -> Any:
    return tf.transpose(x)


def device(x: Any) -> str:
    return x.device.rpartition("device:")[2]


def precision(dtype: str) -> AbstractContextManager[Any]:
    return nullcontext()


def _eager(function: Any, wrt: Any) -> Any:
    def run(arrays: Any, cotangent: Any) -> tuple[Any, list[Any]]:
        leaves = [arrays[i] for i in wrt]
        with tf.GradientTape() as tape:
            for leaf in leaves:
                tape.watch(leaf)
            value = function(*arrays)
        zero = tf.UnconnectedGradients.ZERO
        return value, tape.gradient(value, leaves, output_gradients=cotangent, unconnected_gradients=zero)

    return run


def _outside(function: Any, wrt: Any) -> Any:
    """The loss alone in a function, the tape around it."""
    return _eager(tf.function(function), wrt)


def _inside(spec: Callable[[Any], Any] | None = None, **options: Any) -> Any:
    """Loss and gradient in one function, as a training step is; ``spec`` is what it is told about its arguments."""

    def prepare(function: Any, wrt: Any) -> Any:
        step = _eager(function, wrt)
        # A signature has no place for None.
        steps = {True: lambda *arrays: step(arrays, None), False: lambda g, *arrays: step(arrays, g)}
        programs: dict[Any, Any] = {}

        def run(arrays: Any, cotangent: Any) -> Any:
            given = list(arrays) if cotangent is None else [cotangent, *arrays]
            signature = None if spec is None else tuple(map(spec, given))
            key = cotangent is None, signature
            if key not in programs:
                programs[key] = tf.function(steps[cotangent is None], input_signature=signature, **options)
            return programs[key](*given)

        return run

    return prepare


def _session(function: Any, wrt: Any) -> Any:
    """Placeholders, ``tf.gradients`` and a session, as programs for TensorFlow 1 have them."""
    v1 = tf.compat.v1
    programs: dict[Any, Any] = {}

    def built(arrays: Any, cotangent: Any) -> Any:
        graph = tf.Graph()
        with graph.as_default():
            places = [v1.placeholder(x.dtype, x.shape) for x in arrays]
            upstream = None if cotangent is None else v1.placeholder(cotangent.dtype, cotangent.shape)
            value = function(*places)
            slopes = v1.gradients(value, [places[i] for i in wrt], upstream, unconnected_gradients="zero")
            return graph, places, upstream, value, [dense(x) for x in slopes]

    def run(arrays: Any, cotangent: Any) -> tuple[Any, list[Any]]:
        key = cotangent is None, *((x.dtype, *x.shape.as_list()) for x in arrays)
        if key not in programs:
            with tf.init_scope():
                programs[key] = built(arrays, cotangent)
        graph, places, upstream, value, slopes = programs[key]
        fed = dict(zip(places, (x.numpy() for x in arrays), strict=True))
        if cotangent is not None:
            fed[upstream] = cotangent.numpy()
        with v1.Session(graph=graph) as session:
            value, slopes = session.run([value, slopes], fed)
        return tf.constant(value), [tf.constant(x) for x in slopes]

    return run


def _while(on: Callable[[], None], off: Callable[[], None]) -> Any:
    """Loss and gradient in one function, traced and run with a switch of TensorFlow on."""

    def prepare(function: Any, wrt: Any) -> Any:
        inside = _inside()(function, wrt)

        def run(arrays: Any, cotangent: Any) -> Any:
            on()
            try:
                return inside(arrays, cotangent)
            finally:
                off()

        return run

    return prepare


def _unknown_sizes(x: Any) -> Any:
    return tf.TensorSpec([None] * x.shape.rank, x.dtype)


def _unknown_rank(x: Any) -> Any:
    return tf.TensorSpec(None, x.dtype)


def weighted(tokens: Any, weights: Any) -> Any:
    """The losses of tokens times their weights, in the dtype of the losses."""
    return tokens * tf.cast(weights, tokens.dtype)


def total(x: Any) -> Any:
    return tf.reduce_sum(x)


def identity(x: Any) -> Any:
    """The matrix by which the last axis of an array is multiplied without a change."""
    return tf.eye(x.shape[-1] or tf.shape(x)[-1], dtype=x.dtype)


def over(summed: Any, weights: Any) -> Any:
    """A sum of losses divided by the sum of the weights, added up in its dtype; 0 where that is 0."""
    count = tf.reduce_sum(tf.cast(weights, summed.dtype))
    return tf.where(count == 0, tf.zeros_like(summed), summed / tf.where(count == 0, tf.ones_like(count), count))


def hessian_product(function: Any, arrays: Any, direction: Any) -> Any:
    """The Hessian of a scalar function of its first array, times a direction; None where TensorFlow has none."""
    first = arrays[0]
    with tf.GradientTape() as outer:
        outer.watch(first)
        with tf.GradientTape() as inner:
            inner.watch(first)
            value = function(*arrays)
        gradient = inner.gradient(value, first)
    return outer.gradient(gradient, first, output_gradients=direction)


def pullback(function: Any, arrays: Any) -> Any:
    """The backward pass of a scalar function of its first array, which can be asked for again."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(arrays[0])
        value = function(*arrays)
    return lambda: tape.gradient(value, arrays[0], unconnected_gradients=tf.UnconnectedGradients.ZERO)


many_shapes = nullcontext
mapped = None
LAYOUTS: dict[str, Any] = {}
UNRECORDED = {"without a tape": nullcontext}
SURROUNDINGS: dict[str, Any] = {}
writable = None
MODES = {
    "eager": _eager,
    "function": _outside,
    "function-unknown-sizes": _inside(_unknown_sizes),
    "function-unknown-rank": _inside(_unknown_rank),
    "xla": _inside(jit_compile=True),
}
SETTINGS = {
    "session": _session,
    "equality-off": _while(tf.compat.v1.disable_tensor_equality, tf.compat.v1.enable_tensor_equality),
    "check-numerics": _while(tf.debugging.enable_check_numerics, tf.debugging.disable_check_numerics),
}
FINITE = ("check-numerics",)
COMPILERS = {
    "function": tf.function,
    "xla": lambda function: tf.function(function, jit_compile=True),
}
QUICK = None
EXPLICIT = {"explicit": lambda function: function, "explicit-function": tf.function}

# The first is the one that is asked everything by default.
COMPILED = ("xla", "function", "function-unknown-sizes", "function-unknown-rank", "explicit-function")
# A kernel sees a dtype and a way to run independently of each other. So one half-precision dtype tells enough where a
# case is compiled, and float32 where another mode compiles the same operations.
FEWER_DTYPES = {
    **dict.fromkeys(("function", "xla"), ("float32", "float64", "bfloat16")),
    **dict.fromkeys(("function-unknown-sizes", "function-unknown-rank"), ("float32",)),
    "explicit-function": ("float32", "bfloat16"),
}
