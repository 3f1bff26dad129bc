"""The loss of ``logits = hidden @ kernel + bias`` without the logits: what a backend is asked for.

The tokens go through the products in chunks. The logits of a chunk are made, a *step* turns them into the losses of its
tokens and, if there are cotangents, into their gradient, and that goes into the gradients of hidden, kernel and bias
at once. So nothing of the size [batch, time, classes] ever exists, and logits are made once where the cotangents of the
losses are known before these: as in every loss that is one number.

Rules
-----
1. Products, logits and gradients are of the dtype of the :class:`LinearSpec`, whatever the arrays have: half precision
   is multiplied as it is and added up in float32, or cast to float32 first.
2. A token whose cotangent is 0 reaches nothing, whatever hidden and the kernel hold: its row of the gradient of hidden
   is exactly 0, and its row of hidden adds exactly 0 to the gradient of the kernel. ``0 * NaN`` is NaN, so both are
   selected.
3. A token that is not active may be left out of the first product. What it has for results is 0.
4. The gradient of the kernel is added up in the dtype of the spec, chunk after chunk.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Array = Any

ROWS = 256
"""Tokens of a chunk, at least: products of fewer rows are slower, because they read the whole kernel too."""

NUMBERS = 2**24
"""Logits of a chunk, at least: 64 MiB in float32. So where there are few classes a chunk has more tokens."""


class LinearSpec(NamedTuple):
    """Static numbers, hashable."""

    dtype: str
    """Of products and results: "float32" or "float64"."""
    chunk: int | None
    """The most tokens of a chunk; None: as many as are fast."""
    wrt_hidden: bool
    wrt_kernel: bool
    wrt_bias: bool

    @property
    def has_gradients(self) -> bool:
        return self.wrt_hidden or self.wrt_kernel or self.wrt_bias

    def without_gradients(self) -> "LinearSpec":
        return LinearSpec(self.dtype, self.chunk, False, False, False)

    def size(self, tokens: int, classes: int) -> int:
        """The tokens of a chunk, of which all but the last have as many."""
        return max(1, -(-tokens // max(1, -(-tokens // self.most(classes)))))

    def most(self, classes: int) -> int:
        return max(ROWS, NUMBERS // max(1, classes)) if self.chunk is None else self.chunk


class Tokens(NamedTuple):
    """Arrays with one entry for each token, [batch, time] or [tokens]; None where there are none."""

    targets: Array
    """Or soft ones, with a last axis of classes."""
    active: Array | None
    units: Array | None
    mass: Array | None
    cotangents: Array | None
    """Of the losses, 0 where a token is not active. None: no gradients."""


class LinearFound(NamedTuple):
    """What was asked for."""

    outputs: tuple[Array, ...]
    """What the step returned, for each token."""
    hidden: Array | None
    """The gradients, of the shapes of the arrays."""
    kernel: Array | None
    bias: Array | None


Step = Callable[[Array, Tokens], tuple[tuple[Array, ...], Array | None]]
"""From the logits of a chunk, which it may write into, and its tokens: numbers for each token, and the gradient of the
logits if there are cotangents."""


class Encoded(NamedTuple):
    """An operation as numbers and names, for a framework whose operators take no objects; :func:`decoded` makes it."""

    floats: tuple[float, ...]
    ints: tuple[int, ...]
    bools: tuple[bool, ...]
    strs: tuple[str, ...]


_decoders: dict[str, Callable[[Any, Encoded], Any]] = {}


def decodes(kind: str, decoder: Callable[[Any, Encoded], Any]) -> None:
    """Tell how operations whose first name is ``kind`` are made, of a backend and what they were encoded as."""
    _decoders[kind] = decoder


def decoded(backend: Any, encoded: Encoded) -> Any:
    """The operation on a backend that was encoded."""
    return _decoders[encoded.strs[0]](backend, encoded)
