"""The loss of hidden states and a kernel from operations of a framework, as ``seqloss.core.linear`` defines it.

:func:`of_chunk` is one chunk. :func:`linear` goes through all of them one after the other, in Python; a framework that
compiles has a loop of its own where there are many.
"""

from typing import Any

from seqloss.core.linear import LinearFound, LinearSpec, Step, Tokens
from seqloss.core.protocol import Array, Backend


def linear(
    backend: Backend,
    step: Step,
    hidden: Array,
    kernel: Array,
    bias: Array | None,
    of_tokens: Tokens,
    spec: LinearSpec,
) -> LinearFound:
    x, tokens, count = flat(backend, hidden, of_tokens)
    classes = (backend.shape(kernel) or (1,))[-1]
    size = spec.size(count, classes or 1)
    found: list[LinearFound] = []
    for start in range(0, max(count, 1), size):
        piece = slice(start, min(start + size, count))
        part = Tokens(*[None if a is None else a[piece, ...] for a in tokens])
        one = of_chunk(backend, step, x[piece, ...], kernel, bias, part, spec)
        if found:
            one = LinearFound(
                one.outputs, one.hidden, *[plus(*pair) for pair in zip(found[-1][2:], one[2:], strict=True)]
            )
            found[-1] = LinearFound(*found[-1][:2], None, None)
        found.append(one)
    outputs = tuple(backend.concat(list(parts), axis=0) for parts in zip(*[one.outputs for one in found], strict=True))
    to_hidden = None if found[0].hidden is None else backend.concat([one.hidden for one in found], axis=0)
    return unflat(backend, hidden, LinearFound(outputs, to_hidden, *found[-1][2:]))


def of_chunk(
    backend: Backend,
    step: Step,
    hidden: Array,
    kernel: Array,
    bias: Array | None,
    tokens: Tokens,
    spec: LinearSpec,
) -> LinearFound:
    """What one chunk has, for hidden [tokens, features]: its rows of results, and its part of the others."""
    logits = backend.matmul(hidden, kernel, dtype=spec.dtype)
    if bias is not None:
        logits = logits + backend.astype(bias, spec.dtype)
    outputs, slope = step(logits, tokens)
    if slope is None:
        return LinearFound(outputs, None, None, None)
    idle = backend.expand_dims(backend.equal(tokens.cotangents, 0.0), axis=-1)
    to_hidden = to_kernel = to_bias = None
    if spec.wrt_hidden:
        to_hidden = backend.matmul(slope, backend.permute_dims(kernel, (1, 0)), dtype=spec.dtype)
        to_hidden = backend.where(idle, 0.0, to_hidden)
    if spec.wrt_kernel:
        rows = backend.permute_dims(backend.where(idle, 0.0, hidden), (1, 0))
        to_kernel = backend.matmul(rows, slope, dtype=spec.dtype)
    if spec.wrt_bias:
        to_bias = backend.sum(slope, axis=(0,))
    return LinearFound(outputs, to_hidden, to_kernel, to_bias)


def plus(x: Any, y: Any) -> Any:
    """The sum of two gradients, or None of none."""
    return None if x is None else x + y


def flat(backend: Backend, hidden: Array, of_tokens: Tokens) -> tuple[Array, Tokens, Any]:
    """Arrays of tokens with one axis for these, and how many there are."""
    sizes = backend.sizes(hidden)
    count = 1
    for size in sizes[:-1]:
        count = count * size
    rows = [None if a is None else backend.reshape(a, (count, *backend.sizes(a)[len(sizes) - 1 :])) for a in of_tokens]
    return backend.reshape(hidden, (count, sizes[-1])), Tokens(*rows), count


def unflat(backend: Backend, hidden: Array, found: LinearFound) -> LinearFound:
    """What was found for flat arrays, in the shape of these."""
    sizes = backend.sizes(hidden)
    outputs = tuple(backend.reshape(x, sizes[:-1]) for x in found.outputs)
    to_hidden = None if found.hidden is None else backend.reshape(found.hidden, sizes)
    return LinearFound(outputs, to_hidden, found.kernel, found.bias)


def matmul(backend: Backend, a: Array, b: Array, *, dtype: str) -> Array:
    """``a @ b`` of arrays that are cast first."""
    return backend.astype(a, dtype) @ backend.astype(b, dtype)
