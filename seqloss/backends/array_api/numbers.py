"""Array API: logits in the compute dtype, after their cap, and gradients in the dtype of the logits."""

import math
from typing import Any

from seqloss.backends.array_api import ops
from seqloss.core.contract import SMALLEST_ACTIVE, Spec
from seqloss.core.protocol import Array

NAN, INF = float("nan"), float("inf")


def capped(logits: Array, spec: Spec) -> Array:
    """The logits that everything is computed from; see "Capped logits" in the contract."""
    x = ops.astype(logits, spec.dtype)
    if spec.softcap is None:
        return x
    return ops.where(ops.namespace(x).isinf(x), x, spec.softcap * _tanh(x / spec.softcap, spec.dtype))


def _tanh(u: Array, dtype: str) -> Array:
    xp = ops.namespace(u)
    if dtype == "float32":
        return xp.tanh(u)
    v = xp.expm1(-2.0 * xp.abs(u))
    return xp.sign(u) * (-v / (2.0 + v))


def uncapped(gradient: Array, logits: Array, spec: Spec) -> Array:
    """The gradient of capped logits as that of the logits themselves, in their dtype, rounded once."""
    xp = ops.namespace(gradient)
    if spec.softcap is not None:
        e = xp.exp(-2.0 * xp.abs(ops.astype(logits, spec.dtype)) / spec.softcap)
        gradient = gradient * (4.0 * e / ((1.0 + e) * (1.0 + e)))
    return narrowed(gradient, ops.dtype(logits))


def narrowed(gradient: Array, dtype: str) -> Array:
    """A gradient in the dtype of an argument, rounded once."""
    if ops.dtype(gradient) == "float64" != dtype:
        gradient = ops.where(ops.namespace(gradient).abs(gradient) < SMALLEST_ACTIVE, 0.0, gradient)
    return ops.astype(gradient, dtype)


def total(terms: Array) -> Array:
    """The sum of numbers between 0 and 1 along the last axis; in float64 the same bits in any order."""
    if ops.dtype(terms) != "float64":
        return along_classes(terms)
    grid = 1.5 * 2.0 ** max(18, math.ceil(math.log2(terms.shape[-1])))
    high = (terms + grid) - grid
    return along_classes(high) + along_classes(terms - high)


def along_classes(terms: Array) -> Array:
    """The sum along the last axis, of which one of size 1 is left."""
    return ops.namespace(terms).sum(terms, axis=-1, keepdims=True)


def highest(z: Array) -> Array:
    return ops.namespace(z).max(z, axis=-1, keepdims=True)


def sum_of(*parts: Array | None) -> Any:
    """The sum of those that are there, or None."""
    there = [part for part in parts if part is not None]
    result = there[0] if there else None
    for part in there[1:]:
        result = result + part
    return result
