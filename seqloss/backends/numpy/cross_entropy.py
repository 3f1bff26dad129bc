"""NumPy: the cross-entropy kernel and its pullback. The formulas stand in ``seqloss.core.protocol``.

Both go through the rows in blocks that stay in a core's cache, so that memory is read once and nothing but the result
is allocated, and big arrays are shared out to threads. Between two operations of NumPy a thread holds the lock of the
interpreter, so all that is small is done once for all rows.

Eager arrays of other frameworks come here too (``seqloss.core.hosted``): logits in uint16 are the bits of bfloat16.
"""

from typing import Any

import numpy as np

from seqloss.backends.numpy.rows import Rows, for_blocks, total
from seqloss.core.protocol import SMALLEST_ACTIVE, Array, TokenStatistics

_ALIGNMENT = 64
"""Of the memory of big gradients, in bytes; there are frameworks that take no other over without a copy."""


def token_nll(logits: Array, targets: Array, active: Array | None, dtype: str) -> TokenStatistics:
    z, index, legal = _prepare(logits, targets)
    count, used = len(z), None if active is None else active.ravel()
    shift, (gap, rest) = np.zeros((count, 1), _compute_dtype(z)), np.zeros((2, count), dtype)

    def forward(rows: Rows, block: Array, at: Array, own: Array, axis: int) -> None:
        highest = np.maximum.reduce(block, axis=axis, keepdims=True)
        np.subtract(block, highest, out=own, dtype=own.dtype)
        flat = own.ravel()
        gap[rows] = flat[at]
        np.exp(own, out=own)
        flat[at] = 0
        shift[rows], rest[rows] = highest.reshape(-1, 1), total(own, axis)

    for_blocks(forward, z, index, used, rest.dtype)
    if legal is not None:
        rest[~legal if used is None else ~legal & used] = np.nan
    # A row whose largest logit is not finite becomes NaN by itself, inf - inf, and one that was skipped 0.
    excess = np.expm1(gap)
    excess += rest
    nll = np.log1p(excess)
    nll -= gap
    excess += 1
    shift = shift[:, 0].astype(dtype, copy=False)
    return TokenStatistics(*(x.reshape(targets.shape) for x in (nll, shift, excess)))


def token_nll_pullback(
    cotangent: Array, logits: Array, targets: Array, active: Array | None, statistics: TokenStatistics
) -> Array:
    z, index, _ = _prepare(logits, targets)
    g, nll, shift, total = (x.reshape(-1, 1) for x in (cotangent, *statistics))
    used = (g != 0).ravel() if active is None else (g != 0).ravel() & active.ravel()
    gradient = _zeros(z)
    is_exact = nll.dtype != _compute_dtype(z)
    scale = g / total
    at_target = (g * np.expm1(-nll)).ravel()
    if z.dtype == np.uint16:
        # Of NaN there are many, and some of them would be rounded to 0.
        scale[np.isnan(scale)] = at_target[np.isnan(at_target)] = np.nan
    if is_exact:
        at_target[abs(at_target) < SMALLEST_ACTIVE] = 0
    # Where all logits of a row are above this, no entry is a subnormal float32.
    faintest = np.log(SMALLEST_ACTIVE) - np.log(abs(scale)) + shift + 0.125 if is_exact else shift

    def backward(rows: Rows, block: Array, at: Array, own: Array, axis: int) -> None:
        in_place = axis == 1 and isinstance(rows, slice) and gradient.dtype == own.dtype
        out = gradient[rows] if in_place else own
        per_row = (1, -1) if axis == 0 else (-1, 1)
        is_faint = is_exact and not (block.min(axis=axis) > faintest[rows].ravel()).all()
        np.subtract(block, shift[rows].reshape(per_row), out=out, dtype=out.dtype)
        np.exp(out, out=out)
        out *= scale[rows].reshape(per_row)
        out.ravel()[at] = at_target[rows]
        if is_faint:
            out[abs(out) < SMALLEST_ACTIVE] = 0
        if not in_place:
            narrowed = _narrowed(out, gradient.dtype)
            gradient[rows] = narrowed.T if axis == 0 else narrowed

    for_blocks(backward, z, index, used, nll.dtype)
    return (gradient if gradient.dtype == logits.dtype else gradient.view(logits.dtype)).reshape(logits.shape)


def indices(logits: Array, targets: Array) -> tuple[Array, Array]:
    index = targets.astype(np.intp, copy=False)
    legal = index.view(np.uintp) < logits.shape[-1]  # what is negative is huge
    return index if np.count_nonzero(legal) == legal.size else np.where(legal, index, 0), legal


def differentiable_token_nll(logits: Array, targets: Array, active: Array | None) -> Array:
    """NumPy differentiates nothing: this is the forward kernel."""
    return token_nll(logits, targets, active, "float64" if logits.dtype == np.float64 else "float32").nll[()]


def _prepare(logits: Array, targets: Array) -> tuple[Array, Array, Array | None]:
    """Logits [tokens, classes], the label as an index that is always legal, and whether it was; None if all were."""
    z = logits.reshape(-1, logits.shape[-1])
    if z.dtype.kind == "V":  # bfloat16, which is a stranger to NumPy
        z = z.view(np.uint16)
    index, legal = indices(z, targets.reshape(-1))
    return z, index, None if np.count_nonzero(legal) == legal.size else legal


def _compute_dtype(z: Array) -> Any:
    return z.dtype if z.dtype == np.float64 else np.dtype(np.float32)


def _narrowed(x: Array, dtype: Any) -> Array:
    """Numbers in the dtype of the logits, rounded once. ``x`` is written into."""
    if x.dtype == np.float64 and dtype.itemsize == 2:
        # Rounded to odd on the way: float32 keeps a trace of what is cut off, so that nothing is rounded twice.
        bits = x.view(np.uint64)
        cut = np.uint64((1 << 29) - 1)
        is_cut = (bits & cut) != 0
        bits &= ~cut
        bits |= is_cut.astype(np.uint64) << np.uint64(29)
        x = x.astype(np.float32)
    if dtype != np.uint16:
        return x.astype(dtype, copy=False)
    # To the nearest, ties to even. A NaN stays one, because those of the kernel have no bits at the end.
    bits = x.view(np.uint32)
    half = bits >> np.uint32(16)
    half &= np.uint32(1)
    half += np.uint32(0x7FFF)
    half += bits
    half >>= np.uint32(16)
    return half.astype(np.uint16)


def _zeros(z: Array) -> Array:
    """Zeros like ``z``, from the system where they are many: rows that nobody writes to are never made."""
    if z.nbytes < 1 << 20:
        return np.zeros(z.shape, z.dtype)
    memory = np.zeros(z.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + z.nbytes].view(z.dtype).reshape(z.shape)
