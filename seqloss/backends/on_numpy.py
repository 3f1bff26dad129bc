"""Operations that NumPy runs on the memory of another framework's arrays.

Where all arrays of an operation are eager and lie in the memory of the host, NumPy's kernels compute the loss and its
gradients for every framework that wants it. They are faster there than the framework's own operations, and what they
return are the same bits everywhere. Compiled code, transformations and accelerators never come here.

A backend that uses this gives :class:`Memory`: how its arrays become NumPy's and back.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from seqloss.backends.numpy import threads
from seqloss.core.protocol import Array, Arrays, LossOp


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
    """Residuals of NumPy's, which a framework is to keep as they are and not to look into."""

    def __init__(self, of_op: Any) -> None:
        self.of_op = of_op


class RunOnNumPy:
    """An operation run by NumPy. It takes arrays of the framework and returns new ones; its residuals are NumPy's."""

    def __init__(self, op: LossOp, memory: Memory, dtype: str) -> None:
        from seqloss.backends import numpy as host

        self.op, self.backend, self.opaque = op, op.backend, op.opaque
        self._memory, self._dtype = memory, dtype
        self._host, self._on_host = host, op.on(host)

    def on(self, backend: Any) -> LossOp:
        return self.op.on(backend)

    def composed(self, *arrays: Any) -> tuple[Array, ...]:
        return self.op.composed(*arrays)

    def forward(self, *arrays: Any) -> tuple[tuple[Array, ...], Any]:
        views = self._views(arrays)
        with self._host.scope(None), threads.at_most(self._memory.threads()):
            outputs, residuals = self._on_host.forward(*views)
        # Copies: the caller may write into the outputs, and the pullback reads the residuals.
        returned = tuple(self._memory.from_host(np.array(x), x.dtype.name, arrays[0]) for x in outputs)
        return returned, _Residuals(residuals)

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        if not self._memory.is_on_host([*arrays, *cotangents]):
            # A transformation of the backward pass alone, such as many cotangents at a time.
            _, residuals = self.op.forward(*arrays)
            return tuple(self.op.pullback(arrays, residuals, cotangents))
        views = self._views(arrays)
        upstream = [None if x is None else self._memory.to_host(x) for x in cotangents]
        with self._host.scope(None), threads.at_most(self._memory.threads()):
            to_logits, *others = self._on_host.pullback(views, residuals.of_op, upstream)
        pairs = zip(others, arrays[1:], strict=True)
        return self._memory.from_host(to_logits, self._dtype, arrays[0]), *(
            None if gradient is None else self._returned(gradient, x) for gradient, x in pairs
        )

    def _views(self, arrays: Arrays) -> list[Any]:
        # The kernels know the bits of bfloat16 logits; the other arrays are few, and NumPy has no bfloat16.
        return [self._memory.to_host(arrays[0]), *(self._readable(x) for x in arrays[1:])]

    def _readable(self, x: Array | None) -> Any:
        if x is None:
            return None
        is_foreign = self.backend.dtype(x) == "bfloat16"
        return self._memory.to_host(self.backend.astype(x, "float32") if is_foreign else x)

    def _returned(self, gradient: Any, x: Array) -> Array:
        gradient = np.asarray(gradient)
        return self.backend.astype(self._memory.from_host(gradient, gradient.dtype.name, x), self.backend.dtype(x))
