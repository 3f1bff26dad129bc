"""Operations that NumPy runs on the memory of another framework's arrays.

Where all arrays of an operation are eager and in the memory of the host, NumPy's kernels compute the loss and its
gradients for every framework that wants it. They are faster there than the framework's own operations, and what they
return are the same bits everywhere. Compiled code, transformations and accelerators never come here.

The cotangent of a scalar loss is most often 1. So if its gradient will be asked for, the forward pass computes it
together with the loss, reading the logits once, and the first pullback returns it.

A backend that uses this gives :class:`Memory`: how its arrays become NumPy's and back.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from seqloss.backends.numpy import blocks, numbers, threads
from seqloss.core.protocol import SMALLEST_ACTIVE, Array, Arrays, LossOp

_MOST = 2.0**24
"""A gradient may be multiplied by this: what float32 then loses of an entry is below its smallest normal number."""


class Memory(Protocol):
    """A room of a backend with these functions."""

    def is_on_host(self, arrays: Sequence[Any], /) -> bool:
        """Whether NumPy may compute on all of them (None aside), because they are eager and on the CPU."""

    def to_host(self, x: Array, /) -> Any:
        """A NumPy array that shares the memory of such an array: bfloat16 as its bits, in uint16."""

    def from_host(self, x: Any, dtype: str, like: Array, /) -> Array:
        """A NumPy array or scalar as an array of the framework, without a copy if that is possible.

        For the dtype "bfloat16" it holds the bits, in uint16.
        """

    def threads(self) -> int | None:
        """How many threads the framework was told to use; None if it does not say."""


class _Residuals:
    """Residuals of NumPy, which a framework must keep as they are and not look into."""

    def __init__(self, of_op: Any, gradients: Sequence[Any] | None = None) -> None:
        self.of_op, self._gradients = of_op, gradients

    def taken(self) -> Sequence[Any] | None:
        """The gradients for the cotangent 1, if computed and not yet taken: whoever takes them may write into them."""
        gradients, self._gradients = self._gradients, None
        return gradients


class RunOnNumPy:
    """An operation run by NumPy. It takes arrays of the framework and returns new ones; its residuals are NumPy's."""

    def __init__(self, op: LossOp, memory: Memory, dtype: str, foresees: bool = False) -> None:
        from seqloss.backends import numpy as host

        self.op, self.backend, self.opaque = op, op.backend, op.opaque
        self._host = host
        self._on_host: Any = op.on(host)
        self._memory, self._dtype, self._is_rounded = memory, dtype, op.opaque
        self.is_foreseen = getattr(self._on_host, "is_foreseen", False)
        self._foresees = foresees and self.is_foreseen
        # Some make gradients in the dtype of the computation, which are brought into those of the arrays in the end.
        self._in_dtypes = getattr(op, "in_dtypes", None)
        self._of_losses = self._on_host
        if self._in_dtypes is not None:
            self._on_host, self._is_rounded = op.on(_Host(host, memory)), False
            self._of_losses = self._on_host.alone()

    @classmethod
    @functools.lru_cache(maxsize=256, typed=True)  # typed: as tuples, operations of two classes may be equal
    def of(cls, op: LossOp, memory: Memory, dtype: str, foresees: bool = False) -> "RunOnNumPy":
        """The same, but made once."""
        return cls(op, memory, dtype, foresees)

    def on(self, backend: Any) -> LossOp:
        return self.op.on(backend)

    def composed(self, *arrays: Any) -> tuple[Array, ...]:
        return self.op.composed(*arrays)

    def forward(self, *arrays: Any) -> tuple[tuple[Array, ...], Any]:
        views = self._views(arrays)
        with self._host.scope(None), threads.at_most(self._memory.threads()):
            if self._foresees:
                outputs, gradients = self._on_host.at_once(views, None)
                residuals = _Residuals(None, gradients)
            else:
                outputs, of_op = self._of_losses.forward(*views)
                residuals = _Residuals(of_op)
        return self._outputs(outputs, arrays), residuals

    def at_once(self, arrays: Arrays, cotangent: Array | None) -> tuple[tuple[Array, ...], tuple[Array | None, ...]]:
        """The outputs, and their pullback, of an operation that ``is_foreseen``; the cotangent None stands for 1."""
        outputs, gradients = self._at_once(arrays, cotangent)
        return outputs, self._gradients(gradients, arrays)

    def wide_at_once(
        self, arrays: Arrays, cotangent: Array | None
    ) -> tuple[tuple[Array, ...], tuple[Array | None, ...]]:
        """The same of an operation with ``in_dtypes``, with gradients in the dtype of the computation."""
        outputs, gradients = self._at_once(arrays, cotangent)
        return outputs, self._wide(gradients, arrays)

    def _at_once(self, arrays: Arrays, cotangent: Array | None) -> tuple[tuple[Array, ...], Sequence[Any]]:
        """The outputs, and NumPy's gradients."""
        upstream = None if cotangent is None else self._memory.to_host(cotangent)
        with self._host.scope(None), threads.at_most(self._memory.threads()):
            outputs, gradients = self._on_host.at_once(self._views(arrays), upstream)
        return self._outputs(outputs, arrays), gradients

    def kept(self, losses: Array) -> Any:
        """The residuals of an operation that keeps the losses of tokens alone, and below the other way round."""
        return _Residuals(self._on_host.kept(self._memory.to_host(losses)))

    def losses_kept(self, residuals: Any, like: Array) -> Array:
        return self._as_it_is(self._on_host.losses_kept(residuals.of_op, like), like)

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        if not self._memory.is_on_host((*cotangents, *arrays)):
            # A transformation of the backward pass only, such as many cotangents at a time.
            _, residuals = self.op.forward(*arrays)
            return tuple(self.op.pullback(arrays, residuals, cotangents))
        upstream: list[Any] = [None if x is None else self._memory.to_host(x) for x in cotangents]
        gradients = residuals.taken()
        if gradients is not None and upstream[0] == 1:
            return self._gradients(gradients, arrays)
        with self._host.scope(None), threads.at_most(self._memory.threads()):
            if not self._foresees and (self._in_dtypes is None or not self.is_foreseen):
                pullback = self._on_host.pullback if self._in_dtypes is None else self._on_host.wide_pullback
                gradients = pullback(self._views(arrays), residuals.of_op, upstream)
            elif gradients is None or not _scale(gradients, float(upstream[0]), self._is_rounded):
                del gradients  # lest there be two of them
                _, gradients = self._on_host.at_once(self._views(arrays), upstream[0])
        return self._gradients(gradients, arrays)

    def _outputs(self, outputs: Sequence[Any], arrays: Arrays) -> tuple[Array, ...]:
        # Copies: the caller may write into the outputs, and the pullback reads the residuals.
        return tuple([self._memory.from_host(np.array(x), self._host.dtype(x), arrays[0]) for x in outputs])

    def _gradients(self, gradients: Sequence[Any], arrays: Arrays) -> tuple[Array | None, ...]:
        if self._in_dtypes is not None:
            returned: tuple[Array | None, ...] = self._in_dtypes(arrays, self._wide(gradients, arrays))
            return returned
        to_logits, *others = gradients
        pairs = zip(others, arrays[1:], strict=True)
        others = [None if gradient is None else self._returned(gradient, x) for gradient, x in pairs]
        return self._memory.from_host(to_logits, self._dtype, arrays[0]), *others

    def _wide(self, gradients: Sequence[Any], arrays: Arrays) -> tuple[Array | None, ...]:
        pairs = zip(gradients, arrays, strict=True)
        return tuple([None if x is None else self._as_it_is(x, array) for x, array in pairs])

    def _views(self, arrays: Arrays) -> list[Any]:
        # The kernels know the bits of bfloat16 logits; the other arrays are few, and NumPy has no bfloat16.
        return [self._memory.to_host(arrays[0]), *[None if x is None else self._readable(x) for x in arrays[1:]]]

    def _readable(self, x: Array) -> Any:
        view = self._memory.to_host(x)
        if view.dtype == numbers.BITS and self.backend.dtype(x) == "bfloat16":
            return self._memory.to_host(self.backend.astype(x, "float32"))
        return view

    def _returned(self, gradient: Any, x: Array) -> Array:
        return self.backend.astype(self._as_it_is(gradient, x), self.backend.dtype(x))

    def _as_it_is(self, gradient: Any, x: Array) -> Array:
        gradient = np.asarray(gradient)
        return self._memory.from_host(gradient, self._host.dtype(gradient), x)


class _Host:
    """The backend of NumPy with the products of matrices that a framework makes, if it does."""

    def __init__(self, host: Any, memory: Memory) -> None:
        self._host, products = host, getattr(memory, "products", None)
        self.linear = host.linear if products is None else functools.partial(host.linear, products=products)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)


def _scale(gradients: Sequence[Any], by: float, is_exact: bool) -> bool:
    """Multiply gradients in place; return False if a pullback would give something else for this cotangent.

    0 takes out what is not finite, and what is not finite leaves out what does not count. What was rounded once, in
    exact mode or to half precision, must not be so again; a power of two rounds no number, except on the way to 0.
    """
    if by == 0 or not abs(by) <= _MOST:
        return False
    is_power = math.frexp(abs(by))[0] == 0.5 and abs(by) < 1
    return all(x is None or _is_scaled(x, by, is_exact or x.dtype.itemsize == 2, is_power) for x in gradients)


def _is_scaled(x: Any, by: float, is_rounded: bool, is_power: bool) -> bool:
    x = x if x.flags.c_contiguous else x.T
    has_room = x.flags.writeable and x.flags.c_contiguous
    if not has_room or (is_rounded and not is_power) or x.dtype == np.float16:  # of which most entries are subnormal
        return False
    flat, faint = x.reshape(-1), []

    def multiply(piece: slice) -> None:
        part = flat[piece]
        wide = numbers.widened(part)
        wide *= wide.dtype.type(by)
        if is_rounded:
            faint.append(np.count_nonzero((abs(wide) < SMALLEST_ACTIVE) & (wide != 0)))
        if wide is not part:
            part[...] = wide.view(np.uint32) >> np.uint32(16)

    blocks.for_slices(multiply, len(flat))
    return not any(faint)
