"""NumPy: the loss of hidden states and a kernel, chunk by chunk; the rules are those of ``seqloss.core.linear``.

The logits of a chunk and their gradient share one piece of memory, which is used again for the next. Rows that do not
count are left out before the first product. Eager arrays of other frameworks come here too, with hidden in uint16 for
the bits of bfloat16, and perhaps with products of their own: see :class:`Products`.
"""

from typing import Any, Protocol

import numpy as np

from seqloss.backends.numpy.numbers import rows_of, widened, zeros
from seqloss.core.linear import LinearFound, LinearSpec, Step, Tokens
from seqloss.core.protocol import Array

_NUMBERS = 1 << 18
"""Of a product that is to be added to something: NumPy (2.4) has no product that does so by itself."""


class Products(Protocol):
    """Products of matrices of one dtype, without gaps along one of their axes."""

    def product(self, a: Array, b: Array, out: Array, /) -> Array:
        """``a @ b``, in ``out``, which has no gaps, or in memory of its own, for the caller to write into."""

    def add_product(self, total: Array, a: Array, b: Array, /) -> None:
        """``total += a @ b``."""


class _NumPy:
    """The products of NumPy, in the threads of its BLAS."""

    def product(self, a: Array, b: Array, out: Array) -> Array:
        product: Array = np.matmul(a, b, out=out)
        return product

    def add_product(self, total: Array, a: Array, b: Array) -> None:
        if not total.flags.c_contiguous:
            total, a, b = total.T, b.T, a.T
        rows, columns = total.shape
        size = max(64, _NUMBERS // max(1, min(rows, columns)))
        room = np.empty(min(total.size, size * min(rows, columns)), total.dtype)
        for start in range(0, max(rows, columns), size):
            piece = slice(start, start + size)
            part = total[piece] if rows >= columns else total[:, piece]
            left, right = (a[piece], b) if rows >= columns else (a, b[:, piece])
            part += np.matmul(left, right, out=room[: part.size].reshape(part.shape))


def linear(
    step: Step,
    hidden: Array,
    kernel: Array,
    bias: Array | None,
    of_tokens: Tokens,
    spec: LinearSpec,
    products: Products = _NumPy(),  # noqa: B008 (it has no state)
) -> LinearFound:
    dtype, shape = np.dtype(spec.dtype), hidden.shape[:-1]
    h, weight = rows_of(hidden), _in_dtype(kernel, dtype)
    tokens = Tokens(*[None if x is None else x.reshape(len(h), *x.shape[len(shape) :]) for x in of_tokens])
    counted = None if tokens.active is None else tokens.active.nonzero()[0]
    count = len(h) if counted is None else len(counted)
    size = spec.size(count, weight.shape[1])
    logits = np.empty((min(size, count), weight.shape[1]), dtype)
    found = _Found(h, weight, bias, spec)
    for start in range(0, count, size):
        rows = slice(start, start + size) if counted is None else counted[start : start + size]
        x = _in_dtype(h[rows], dtype)
        z = products.product(x, weight, logits[: len(x)])
        if bias is not None:
            z += bias
        part = Tokens(*[None if a is None else a[rows] for a in tokens])
        outputs, slope = step(z, part)
        found.put(rows, outputs)
        if slope is not None:
            found.add(rows, x, slope, part.cotangents, products)
        del z, slope  # before there is another
    if count == 0:  # for the dtypes of the results
        found.put(slice(0), step(logits, Tokens(*[None if a is None else a[:0] for a in tokens]))[0])
    outputs = tuple(x.reshape(shape) for x in found.outputs)
    to_hidden = None if found.hidden is None else found.hidden.reshape(hidden.shape)
    return LinearFound(outputs, to_hidden, found.kernel, found.bias)


class _Found:
    """The results, which are filled chunk by chunk; 0 of tokens that were left out."""

    def __init__(self, h: Array, weight: Array, bias: Array | None, spec: LinearSpec) -> None:
        dtype = np.dtype(spec.dtype)
        self.outputs: list[Any] = []
        self.hidden = zeros(h.shape, dtype) if spec.wrt_hidden else None
        self.kernel = None
        if spec.wrt_kernel:  # in the order in memory of the kernel, so that its products are as fast
            is_turned = weight.flags.f_contiguous and not weight.flags.c_contiguous
            self.kernel = zeros(weight.T.shape, dtype).T if is_turned else zeros(weight.shape, dtype)
        self.bias = np.zeros(weight.shape[1], spec.dtype) if spec.wrt_bias else None
        self._count, self._weight = len(h), weight

    def put(self, rows: Any, outputs: tuple[Array, ...]) -> None:
        self.outputs = self.outputs or [np.zeros(self._count, x.dtype) for x in outputs]
        for whole, part in zip(self.outputs, outputs, strict=True):
            whole[rows] = part

    def add(self, rows: Any, x: Array, slope: Array, cotangents: Any, products: Products) -> None:
        idle = cotangents == 0
        has_idle = np.count_nonzero(idle) > 0
        if self.hidden is not None:
            is_slice = isinstance(rows, slice)
            out = self.hidden[rows] if is_slice else np.empty(x.shape, x.dtype)
            found = products.product(slope, self._weight.T, out)
            if has_idle:
                found[idle] = 0
            if found is not out or not is_slice:
                self.hidden[rows] = found
        if self.kernel is not None:
            products.add_product(self.kernel, (np.where(idle[:, None], 0, x) if has_idle else x).T, slope)
        if self.bias is not None:
            self.bias += np.ones(len(slope), slope.dtype) @ slope


def _in_dtype(x: Array, dtype: Any) -> Array:
    """Numbers, or the bits of bfloat16, in the dtype of the products; themselves if they are."""
    return widened(x).astype(dtype, copy=False)


def matmul(a: Array, b: Array, *, dtype: str) -> Array:
    """What other backends make chunks of; the loop of this one has products that write where it says."""
    return _in_dtype(a, np.dtype(dtype)) @ _in_dtype(b, np.dtype(dtype))
