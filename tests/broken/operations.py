"""Faults of wide sums and of operations as one: for each a name, and the function that has it."""

import functools

import numpy as np
from broken import right

from seqloss.backends import compensated


def summed(dtype):
    """A sum that is as good as this dtype, and whatever NumPy makes of it."""

    def wide_sum(x, weights, *, axis):
        with np.errstate(all="ignore"):
            products = x.astype(dtype) if weights is None else x.astype(dtype) * weights.astype(dtype)
            total = products.sum(axis)
            high = total.astype(x.dtype)
            return right.base.Wide(high, (total - high).astype(x.dtype))

    return wide_sum


def pairwise(x, weights, *, axis):
    """Products without loss, but their sums are plain."""
    high, low = (x, 0 * x) if weights is None else compensated.product(x, weights, right.dtype(x))
    with np.errstate(all="ignore"):
        return right.base.Wide(high.sum(axis), np.nan_to_num(low, nan=0).sum(axis))


def without_products(x, weights, *, axis):
    """Sums without loss, of products that are rounded."""
    return right.wide_sum(x if weights is None else x * weights, None, axis=axis)


def in_thousands(x, weights, *, axis):
    return right.wide_sum(x, None if weights is None else weights * 0 + 1, axis=axis)


def denominator_of(x):
    return x[0] if isinstance(x, tuple) else x


def plain_quotient(numerator, denominator):
    """Of the rounded sums."""
    with np.errstate(all="ignore"):
        d = np.asarray(denominator_of(denominator), numerator.high.dtype)
        return np.where(d == 0, 0, numerator.high / np.where(d == 0, 1, d)).astype(numerator.high.dtype)


def nan_at_zero(numerator, denominator):
    with np.errstate(all="ignore"):
        empty = np.asarray(denominator_of(denominator)) == 0
        return np.where(empty, np.nan, right.quotient(numerator, denominator)).astype(numerator.high.dtype)


def infinity_lost(numerator, denominator):
    got = right.quotient(numerator, denominator)
    return np.where(np.isinf(got), np.nan, got).astype(got.dtype)


def warns_at_zero(numerator, denominator):
    denominator_is = np.asarray(denominator_of(denominator))
    with np.errstate(all="warn"):
        _ = np.ones(()) / denominator_is
    return right.quotient(numerator, denominator)


def explicit_with(**methods):
    """The operation with other methods, which take the one that is right first."""

    def explicit(op, arrays):
        class Changed:
            forward = staticmethod(op.forward)
            pullback = staticmethod(op.pullback)

        for name, method in methods.items():
            setattr(Changed, name, functools.partial(method, getattr(op, name)))
        return Changed

    return explicit


def halves_of(gradients):
    return tuple(None if g is None else g / 2 for g in gradients)


def as_one(change):
    return lambda op, arrays: change(op.forward(*arrays)[0])


FAULTS = {
    "wide_sum in the dtype": {"wide_sum": lambda x, w, *, axis: summed(x.dtype)(x, w, axis=axis)},
    "wide_sum of float64 in float64": {"wide_sum": summed("float64")},
    "wide_sum of products without loss": {"wide_sum": pairwise},
    "wide_sum of rounded products": {"wide_sum": without_products},
    "wide_sum without weights": {"wide_sum": in_thousands},
    "wide_sum over the first axis": {"wide_sum": lambda x, w, *, axis: right.wide_sum(x, w, axis=axis[:1])},
    "wide_sum in place": {"wide_sum": lambda x, w, *, axis: right.wide_sum(np.add(x, 1, out=x), w, axis=axis)},
    "quotient of rounded sums": {"quotient": plain_quotient},
    "quotient NaN at 0": {"quotient": nan_at_zero},
    "quotient without infinities": {"quotient": infinity_lost},
    "quotient warns at 0": {"quotient": warns_at_zero},
    "quotient widens": {"quotient": lambda n, d: right.quotient(n, d).astype("float64")},
    "differentiable returns the residuals too": {"differentiable": lambda op, arrays: op.forward(*arrays)},
    "differentiable returns a list": {"differentiable": as_one(list)},
    "differentiable returns one output": {"differentiable": as_one(lambda outputs: outputs[0])},
    "differentiable changes the value": {"differentiable": as_one(lambda outputs: tuple(-x for x in outputs))},
    "run returns the residuals too": {"run": lambda op, arrays: op.forward(*arrays)},
    "run swaps the outputs": {"run": as_one(lambda outputs: outputs[::-1])},
    "run changes the value": {"run": as_one(lambda outputs: tuple(-x for x in outputs))},
    "explicit without residuals": {"explicit": explicit_with(forward=lambda right, *a: right(*a)[0])},
    "explicit with other residuals": {
        "explicit": explicit_with(pullback=lambda right, arrays, r, g: right(arrays, (-r[0], r[1]), g))
    },
    "explicit without the second cotangent": {
        "explicit": explicit_with(pullback=lambda right, arrays, r, g: right(arrays, r, (g[0], None)))
    },
    "explicit with half the gradient": {"explicit": explicit_with(pullback=lambda right, *a: halves_of(right(*a)))},
    "explicit without None": {"explicit": explicit_with(pullback=lambda right, *a: right(*a)[:2])},
}
