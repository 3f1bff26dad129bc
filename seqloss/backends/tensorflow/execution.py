"""TensorFlow: operations with derivatives of their own, and eager tensors as the memory of NumPy arrays."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seqloss.backends.on_numpy import RunOnNumPy
from seqloss.backends.tensorflow.linear import Products
from seqloss.core.errors import EXACT_ONCE, BackendError
from seqloss.core.protocol import Array, Arrays, LossOp

try:
    from tensorflow.python.eager import record
except ImportError:  # no public module
    record = None

_ALIGNMENT = 64
"""The alignment of tensors, in bytes: TensorFlow 2.21 ends the process if it is given memory with a smaller one."""


def differentiable(op: LossOp, arrays: Arrays) -> tuple[Array, ...]:
    own = _Own(op, arrays)

    def forward(*floats: Array) -> tuple[tuple[Array, ...], Callable[..., Any]]:
        outputs, residuals = op.forward(*own.merged(own.unwatched(floats)))

        def pullback(*inputs: Array) -> tuple[list[Array], Callable[..., Any]]:
            cotangents, floats = own.parted(own.unwatched(inputs))
            found = own.known(op.pullback(own.merged(floats), residuals, cotangents))
            return found, lambda *upstream: _pulled(own.gradients, inputs, upstream)

        return outputs, lambda *cotangents: own.spread(_recorded(pullback, own.gradients, [*cotangents, *floats]))

    return tuple(_recorded(forward, own.outputs, own.floats))


def run(op: LossOp, arrays: Arrays) -> tuple[Array, ...]:
    if _MEMORY.is_on_host(arrays):
        on_numpy = RunOnNumPy.of(
            op, _MEMORY, arrays[0].dtype.name, foresees=_is_watched(arrays[: getattr(op, "leading", 1)])
        )
        return differentiable(on_numpy, arrays)
    return differentiable(op, arrays) if op.opaque else op.composed(*arrays)


def _is_watched(arrays: Arrays) -> bool:
    """Whether a tape records what is computed from eager tensors. TensorFlow 2.21 has no public way to ask."""
    return record is not None and bool(record.should_record_backprop([x for x in arrays if x is not None]))


def explicit(op: LossOp, arrays: Arrays) -> LossOp:
    return RunOnNumPy.of(op, _MEMORY, arrays[0].dtype.name) if _MEMORY.is_on_host(arrays) else op


class _Own:
    """An operation as TensorFlow differentiates it: as a function of those arrays that have derivatives, and twice.

    No tape sees what NumPy computes, nor how residuals depend on the arrays. So ``outputs`` and ``gradients``, the same
    from operations that TensorFlow differentiates, serve forward mode and second derivatives.
    """

    def __init__(self, op: LossOp, arrays: Arrays) -> None:
        self._op, self._arrays = op, arrays
        self._has_derivative = [x is not None and x.dtype.is_floating for x in arrays]
        self.floats = [x for x, has in zip(arrays, self._has_derivative, strict=True) if has]
        self._is_known = [True for _ in self.floats]

    def merged(self, floats: Sequence[Array]) -> list[Any]:
        """The arrays with others in the place of those that have derivatives."""
        rest = iter(floats)
        return [next(rest) if has else x for x, has in zip(self._arrays, self._has_derivative, strict=True)]

    def unwatched(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """The same for what no tape is to record, because it would keep all that is computed on the way.

        It does so in TensorFlow 2.21 although the gradient is a custom one. A graph keeps nothing, and
        ``tf.vectorized_map`` with the tape outside needs what is recorded.
        """
        if isinstance(self._op, RunOnNumPy) or not tf.executing_eagerly():
            return arrays
        return [tf.stop_gradient(x) for x in arrays]

    def parted(self, inputs: Sequence[Array]) -> tuple[Sequence[Array], Sequence[Array]]:
        """Cotangents of the outputs, and the arrays that have derivatives."""
        count = len(inputs) - len(self.floats)
        return inputs[:count], inputs[count:]

    def known(self, found: Sequence[Array | None]) -> list[Array]:
        """The gradients that a pullback found; :meth:`spread` gives them their places again."""
        of_floats = [x for x, has in zip(found, self._has_derivative, strict=True) if has]
        self._is_known = [x is not None for x in of_floats]
        return [x for x in of_floats if x is not None]

    def spread(self, known: Sequence[Array]) -> list[Array | None]:
        rest = iter(known)
        return [next(rest) if is_known else None for is_known in self._is_known]

    def outputs(self, *floats: Array) -> tuple[Array, ...]:
        if self._op.opaque:
            raise BackendError(EXACT_ONCE)
        arrays = self.merged(floats)
        return self._op.composed(*arrays) if isinstance(self._op, RunOnNumPy) else self._op.forward(*arrays)[0]

    def gradients(self, *inputs: Array) -> list[Array]:
        if self._op.opaque:
            raise BackendError(EXACT_ONCE)
        cotangents, floats = self.parted(inputs)
        if isinstance(self._op, RunOnNumPy):
            found = _pulled(self.outputs, floats, cotangents)
            return [x for x, is_known in zip(found, self._is_known, strict=True) if is_known]
        arrays = self.merged(floats)
        return self.known(self._op.pullback(arrays, self._op.forward(*arrays)[1], cotangents))


def _pulled(function: Callable[..., Any], inputs: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        values = function(*inputs)
    return tape.gradient(values, inputs, cotangents, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _recorded(function: Callable[..., Any], plain: Callable[..., Any], inputs: Sequence[Array]) -> Any:
    """The values of a function that returns them with its backward function; with accumulators ``plain(*inputs)``.

    Forward mode (TensorFlow 2.21) calls the backward function as soon as the operation is recorded, in a region where
    no tape records.
    """
    state = {"recorded": False, "pushed": False}

    @tf.custom_gradient
    def operation(*inputs: Array) -> tuple[Any, Any]:
        values, backward = function(*inputs)

        def called(*upstream: Array) -> Any:
            if state["recorded"]:
                # The cotangent of what is gathered from may be slices, and that of integers nothing.
                pairs = zip(upstream, values, strict=True)
                return backward(*(tf.zeros_like(y) if x is None else tf.convert_to_tensor(x) for x, y in pairs))
            state["pushed"] = True
            return [tf.zeros_like(x) for x in inputs]

        return values, called

    values = operation(*inputs)
    state["recorded"] = True
    return plain(*inputs) if state["pushed"] else values


# --- the memory of the host -----------------------------------------------------------------------------------------


class _Memory:
    """Eager tensors in the memory of the host, for NumPy: see :class:`seqloss.backends.on_numpy.Memory`."""

    products: Any

    def is_on_host(self, arrays: Sequence[Any]) -> bool:
        # In a graph even tensors with values are constants of it.
        if not tf.executing_eagerly():
            return False
        return all(x is None or (hasattr(x, "numpy") and x.device.endswith("CPU:0")) for x in arrays)

    def to_host(self, x: Array) -> Any:
        # x.numpy() makes a copy. But NumPy (2.4) looks at no single bfloat16 of TensorFlow 2.21.
        view = np.asarray(x if x.shape.rank else x.numpy())
        return view.view(np.uint16) if x.dtype == tf.bfloat16 else view

    def from_host(self, x: Any, dtype: str, like: Array) -> Array:
        x = np.asarray(x)
        if x.size == 0:
            return tf.zeros(x.shape, dtype)
        if x.ctypes.data % _ALIGNMENT or not x.flags.c_contiguous:
            x = _aligned(x)
        # The tensor holds the array, and has its memory.
        tensor = tf.experimental.dlpack.from_dlpack(x.__dlpack__())
        return tf.bitcast(tensor, tf.bfloat16) if dtype == "bfloat16" else tensor

    @functools.cached_property  # it cannot be changed once there are tensors
    def _threads(self) -> int | None:
        return tf.config.threading.get_intra_op_parallelism_threads() or None

    def threads(self) -> int | None:
        return self._threads


_MEMORY = _Memory()
_MEMORY.products = Products(_MEMORY)


def _aligned(x: Any) -> Any:
    """A copy in memory that TensorFlow takes over."""
    memory = np.empty(x.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy
