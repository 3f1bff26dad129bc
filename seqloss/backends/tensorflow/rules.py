"""TensorFlow: rules as operations with derivatives of their own, and eager tensors as the memory of NumPy arrays."""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf

from seqloss.core.errors import EXACT_ONCE, BackendError
from seqloss.core.protocol import Array, Rule

_ALIGNMENT = 64
"""Of the memory of tensors, in bytes: TensorFlow ends the process where it is given memory of a smaller one."""


def fuse(rule: Rule, arrays: Sequence[Any]) -> Array:
    if not rule.is_hosted:
        return rule.plain(*arrays)

    def plain(*floats: Array) -> Array:
        return rule.plain(*_merged(arrays, floats))

    def pullback(cotangent: Array, *floats: Array) -> list[Array]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(floats)
            value = plain(*floats)
        return tape.gradient(value, floats, cotangent, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return _operation(rule, arrays, plain, pullback)


def float64() -> AbstractContextManager[Any]:
    return nullcontext()


def in_float64(rule: Rule, arrays: Sequence[Any]) -> Array:
    def refuse(*_: Array) -> Any:
        raise BackendError(EXACT_ONCE)

    return _operation(rule, arrays, refuse, refuse)


def _operation(
    rule: Rule, arrays: Sequence[Any], plain: Callable[..., Array], plain_pullback: Callable[..., list[Array]]
) -> Array:
    """``rule.forward(*arrays)[0]``, differentiated by ``rule.pullback``.

    No tape sees what NumPy computes. So ``plain(*floats)`` and ``plain_pullback(cotangent, *floats)``, the same from
    operations that TensorFlow differentiates, serve second derivatives and forward mode.
    """

    def forward(*floats: Array) -> tuple[Array, Callable[..., Any]]:
        value, residuals = rule.forward(*_merged(arrays, floats))

        def pullback(cotangent: Array, *floats: Array) -> tuple[list[Array], Callable[..., Any]]:
            gradients = rule.pullback(_merged(arrays, floats), residuals, cotangent)
            pairs = [(x, gradient) for x, gradient in zip(arrays, gradients, strict=True) if _is_float(x)]

            def backward(*upstream: Array) -> list[Array]:
                inputs = cotangent, *floats
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(inputs)
                    first = plain_pullback(*inputs)
                return tape.gradient(first, inputs, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO)

            return [tf.zeros_like(x) if gradient is None else gradient for x, gradient in pairs], backward

        return value, lambda cotangent: _recorded(pullback, plain_pullback, [cotangent, *floats])

    return _recorded(forward, plain, [x for x in arrays if _is_float(x)])


def _recorded(function: Callable[..., Any], plain: Callable[..., Any], inputs: Sequence[Array]) -> Any:
    """The value of a function that returns it with its backward function; with accumulators ``plain(*inputs)``.

    Forward mode calls the backward function as soon as the operation is recorded, in a region where no tape records.
    """
    state = {"recorded": False, "pushed": False}

    @tf.custom_gradient
    def operation(*inputs: Array) -> tuple[Any, Any]:
        value, backward = function(*inputs)

        def called(*upstream: Array) -> Any:
            if state["recorded"]:
                return backward(*upstream)
            state["pushed"] = True
            return [tf.zeros_like(x) for x in inputs]

        return value, called

    value = operation(*inputs)
    state["recorded"] = True
    return plain(*inputs) if state["pushed"] else value


def _is_float(x: Array | None) -> bool:
    return x is not None and x.dtype.is_floating


def _merged(arrays: Sequence[Any], floats: Sequence[Array]) -> list[Any]:
    """The arrays with others in the place of those that have derivatives."""
    rest = iter(floats)
    return [next(rest) if _is_float(x) else x for x in arrays]


# --- the memory of the host -----------------------------------------------------------------------------------------


def on_host(arrays: Sequence[Any]) -> bool:
    # In a graph even tensors with values are constants of it.
    if not tf.executing_eagerly():
        return False
    return all(x is None or (hasattr(x, "numpy") and x.device.endswith("CPU:0")) for x in arrays)


def to_host(x: Array) -> Any:
    # x.numpy() makes a copy.
    view = np.asarray(x)
    return view.view(np.uint16) if x.dtype == tf.bfloat16 else view


def from_host(x: Any, dtype: str, like: Array) -> Array:
    x = np.asarray(x)
    if x.size == 0:
        return tf.zeros(x.shape, dtype)
    if x.ctypes.data % _ALIGNMENT or not x.flags.c_contiguous:
        x = _aligned(x)
    # The tensor holds the array, and has its memory.
    tensor = tf.experimental.dlpack.from_dlpack(x.__dlpack__())
    return tf.bitcast(tensor, tf.bfloat16) if dtype == "bfloat16" else tensor


def _aligned(x: Any) -> Any:
    """A copy in memory that TensorFlow takes over."""
    memory = np.empty(x.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


@functools.cache  # it cannot be changed once there are tensors
def threads() -> int | None:
    return tf.config.threading.get_intra_op_parallelism_threads() or None
