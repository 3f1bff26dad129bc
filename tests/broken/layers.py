"""Faults of products and of the loop of the linear loss."""

import numpy as np
from broken import right


def linear_with(tokens=lambda tokens: tokens, found=lambda found: found, step=lambda step: step):
    """The right loop with something else in the place of what goes in and comes out."""

    def linear(own, hidden, kernel, bias, of_tokens, spec):
        return found(right.linear(step(own), hidden, kernel, bias, tokens(of_tokens), spec))

    return linear


def without_last_chunk(step, hidden, kernel, bias, of_tokens, spec):
    found = right.linear(step, hidden, kernel, bias, of_tokens, spec)
    if spec.chunk != 2 or found.kernel is None or not hidden.shape[1]:
        return found
    last = [None if x is None else x[:, -1:] for x in of_tokens]
    part = right.linear(step, hidden[:, -1:], kernel, bias, type(of_tokens)(*last), spec)
    return found._replace(kernel=found.kernel - part.kernel)


def unselected(step, hidden, kernel, bias, of_tokens, spec):
    """``0 * NaN`` in the gradient of the kernel."""
    found = right.linear(step, hidden, kernel, bias, of_tokens, spec)
    if found.kernel is None:
        return found
    return found._replace(kernel=found.kernel + (0 * hidden).sum((0, 1))[:, None])


FAULTS = {
    "matmul of half precision": {
        "matmul": lambda a, b, *, dtype: np.array([[sum_in(a.dtype, x * y) for y in b.T] for x in a]).astype(dtype)
    },
    "matmul in the dtype of the arrays": {"matmul": lambda a, b, *, dtype: a @ b},
    "matmul of the second array turned": {"matmul": lambda a, b, *, dtype: right.matmul(a, b[::-1], dtype=dtype)},
    "linear without the last chunk": {"linear": without_last_chunk},
    "linear with 0 * NaN": {"linear": unselected},
    "linear without the bias": {"linear": lambda step, h, k, b, t, s: right.linear(step, h, k, 0 * b, t, s)},
    "linear makes what nobody asked for": {
        "linear": lambda step, h, k, b, t, s: right.linear(
            step, h, k, b, t, s if t.cotangents is None else s._replace(wrt_bias=True)
        )
    },
    "linear with half the gradient of hidden": {
        "linear": linear_with(found=lambda f: f if f.hidden is None else f._replace(hidden=f.hidden / 2))
    },
}


def sum_in(dtype, x):
    total = dtype.type(0)
    for each in x:
        total = dtype.type(total + each)
    return total
