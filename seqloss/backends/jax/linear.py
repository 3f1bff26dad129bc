"""JAX: the loss of hidden states and a kernel, chunk by chunk. The rules are those of ``seqloss.core.linear``.

A chunk has every so many of the timesteps of each sequence, so that each device has a part in it where the batch or the
time is sharded. The chunks are a scan. Written out one after the other they take longer and more memory in XLA (jax
0.10.2), which keeps what each adds to the gradient of the kernel.
"""

from typing import Any

import jax
import jax.numpy as jnp

from seqloss.backends.chunks import plus
from seqloss.core.linear import LinearFound, LinearSpec, Step, Tokens
from seqloss.core.protocol import Array


def linear(
    step: Step,
    hidden: Array,
    kernel: Array,
    bias: Array | None,
    of_tokens: Tokens,
    spec: LinearSpec,
) -> LinearFound:
    batch, time = hidden.shape[:2]
    count = -(-batch * time // spec.size(batch * time, kernel.shape[1]))
    split = _Split.of(batch, time, count)

    def chunk(totals: Any, part: Any) -> tuple[Any, Any]:
        outputs, to_hidden, to_kernel, to_bias = _of_chunk(step, part[0], kernel, bias, part[1], spec)
        return (plus(totals[0], to_kernel), plus(totals[1], to_bias)), (outputs, to_hidden)

    has_cotangents = of_tokens.cotangents is not None
    totals = (
        jnp.zeros_like(kernel, dtype=spec.dtype) if has_cotangents and spec.wrt_kernel else None,
        jnp.zeros_like(kernel[0], dtype=spec.dtype) if has_cotangents and spec.wrt_bias else None,
    )
    given = (hidden, of_tokens)
    if split.count == 1:
        totals, (outputs, to_hidden) = chunk(totals, given)
        return LinearFound(outputs, to_hidden, *totals)
    totals, found = jax.lax.scan(chunk, totals, jax.tree.map(split.stacked, given))
    outputs, to_hidden = jax.tree.map(split.joined, found)
    return LinearFound(outputs, to_hidden, *totals)


def _of_chunk(
    step: Step, hidden: Array, kernel: Array, bias: Array | None, tokens: Tokens, spec: LinearSpec
) -> LinearFound:
    """What one chunk has, for hidden [batch, time, features]."""
    logits = matmul(hidden, kernel, dtype=spec.dtype)
    if bias is not None:
        logits = logits + bias.astype(spec.dtype)
    outputs, slope = step(logits, tokens)
    if slope is None:
        return LinearFound(outputs, None, None, None)
    cotangents: Any = tokens.cotangents
    idle = (cotangents == 0)[..., None]
    to_hidden = to_kernel = to_bias = None
    if spec.wrt_hidden:
        to_hidden = jnp.where(idle, 0, matmul(slope, kernel.T, dtype=spec.dtype))
    if spec.wrt_kernel:
        rows = jnp.where(idle, 0, hidden).astype(spec.dtype)
        numbers = ((0, 1), (0, 1)), ((), ())
        to_kernel = jax.lax.dot_general(rows, slope, numbers, out_sharding=_explicit_sharding(kernel))
    if spec.wrt_bias:
        to_bias = jnp.sum(slope, axis=(0, 1))
    return LinearFound(outputs, to_hidden, to_kernel, to_bias)


def _explicit_sharding(x: Array) -> Any:
    """Where JAX asks for the sharding of a product of tokens that are split, that of an array; else None."""
    sharding = jax.typeof(x).sharding
    return sharding if jax.sharding.AxisType.Explicit in sharding.mesh.axis_types else None


def matmul(a: Array, b: Array, *, dtype: str) -> Array:
    if a.dtype != b.dtype or dtype == "float64":
        a, b = a.astype(dtype), b.astype(dtype)
    return jnp.matmul(a, b, preferred_element_type=dtype)


class _Split:
    """[batch, time, ...] in chunks: of the timesteps, every so many; and of the batch likewise where it is large."""

    def __init__(self, batch: int, time: int, of_batch: int, of_time: int) -> None:
        self._shape, self._parts = (batch, time), (of_batch, of_time)
        self._sizes = -(-batch // of_batch), -(-time // of_time)
        self.count = of_batch * of_time

    @classmethod
    def of(cls, batch: int, time: int, count: int) -> "_Split":
        of_time = max(1, min(time, count))
        return cls(batch, time, max(1, min(batch, -(-count // of_time))), of_time)

    def stacked(self, x: Array) -> Array:
        """The chunks, one after the other along a new axis."""
        (batch, time), (of_batch, of_time) = self._sizes, self._parts
        missing = [(0, n * parts - size) for n, parts, size in zip(self._sizes, self._parts, self._shape, strict=True)]
        if any(behind for _, behind in missing):  # without cotangents, so that they reach nothing
            x = jnp.pad(x, [*missing, *((0, 0) for _ in x.shape[2:])])
        x = jnp.moveaxis(x.reshape(batch, of_batch, time, of_time, *x.shape[2:]), (1, 3), (0, 1))
        return x.reshape(self.count, *x.shape[2:])

    def joined(self, x: Array) -> Array:
        """Results of stacked chunks as [batch, time, ...]."""
        (batch, time), (of_batch, of_time) = self._sizes, self._parts
        x = jnp.moveaxis(x.reshape(of_batch, of_time, batch, time, *x.shape[3:]), (0, 1), (1, 3))
        sharding = _explicit_sharding(x)
        if sharding is not None:  # JAX does not merge an axis that is split by itself
            of_rows, _, of_steps, *others = sharding.spec
            sharding = jax.sharding.NamedSharding(sharding.mesh, type(sharding.spec)(of_rows, of_steps, *others[1:]))
        x = jax.lax.reshape(x, (batch * of_batch, time * of_time, *x.shape[4:]), out_sharding=sharding)
        return x[: self._shape[0], : self._shape[1]]
