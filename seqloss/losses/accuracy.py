"""Which tokens a model gets right: the label has the largest logit, and no class before it has the same."""

import math
from typing import Any, NamedTuple

from seqloss.core.protocol import Array, Arrays, Backend
from seqloss.losses.beside import in_one_dtype

_BLOCK = 2**20
"""Logits that are compared at a time where each comparison goes through memory: so few that a cache holds them."""


class IsRightOp(NamedTuple):
    """Whether each of logits [batch, time, classes] and targets is right, as bools.

    A row with a NaN is wrong, whatever else it holds: argmax has another answer to it in each framework.
    """

    backend: Backend

    @property
    def opaque(self) -> bool:
        return False

    def on(self, backend: Backend) -> "IsRightOp":
        return IsRightOp(backend)

    def composed(self, logits: Array, targets: Array) -> tuple[Array]:
        backend, sizes = self.backend, self.backend.sizes(logits)
        if backend.location(logits) != "host" or math.prod(sizes) <= _BLOCK:
            return (_is_right(backend, logits, targets),)
        rows, step = sizes[0] * sizes[1], max(_BLOCK // sizes[2], 1)
        logits, targets = backend.reshape(logits, (rows, sizes[2])), backend.reshape(targets, (rows,))
        starts = range(0, rows, step)
        found = [_is_right(backend, logits[i : i + step, ...], targets[i : i + step, ...]) for i in starts]
        return (backend.reshape(backend.concat(found, axis=0), sizes[:2]),)

    def forward(self, logits: Array, targets: Array) -> tuple[tuple[Array], tuple[()]]:
        return self.composed(logits, targets), ()

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[None, None]:
        return None, None


def is_right(backend: Backend, logits: Array, targets: Array) -> Array:
    """Whether each token is right, without a derivative."""
    logits = backend.stop_gradient(logits)
    if backend.dtype(logits) == "bfloat16":  # which only kernels read where NumPy computes
        logits = backend.astype(logits, "float32")
    return backend.run(IsRightOp(backend), (logits, targets))[0]


def _is_right(backend: Backend, logits: Array, targets: Array) -> Array:
    axis = len(backend.sizes(targets))
    index, legal = backend.indices(logits, targets)
    numbers, index = in_one_dtype(backend, backend.arange(backend.sizes(logits)[-1], like=logits), index)
    index = backend.expand_dims(index, axis=-1)
    own = backend.sum(backend.where(backend.equal(numbers, index), logits, 0.0), axis=(axis,))
    own = backend.expand_dims(own, axis=-1)
    # Not "is above", which is False beside NaN.
    is_beaten = ~backend.where(numbers < index, logits < own, logits <= own)
    return legal & backend.equal(backend.count_nonzero(is_beaten, axis=(axis,)), 0)
