"""Natural answers for a framework that computes eagerly in the memory of the host and differentiates nothing.

A backend is a module of functions. Many of them are the same in every plain framework, or follow from the others:
they are below, with the backend as their first parameter. The last line of a backend module, ::

    base.complete(__name__)

gives it those that it has not defined itself.
"""

import functools
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from seqloss.backends import chunks, compensated
from seqloss.core.protocol import Array, Arrays, Backend, Location, LossOp
from seqloss.core.shapes import Shape


def complete(name: str) -> None:
    """Give the backend module of this name the functions of the protocol that it lacks, as far as they are here."""
    module = sys.modules[name]
    for own, answer in ANSWERS.items():
        if not hasattr(module, own):
            setattr(module, own, functools.partial(answer, module))


# --- facts -----------------------------------------------------------------------------------------------------------


def dense_form(backend: Backend, x: Array) -> str | None:
    return None


def packed_form(backend: Backend, x: Array) -> None:
    return None


def shape(backend: Backend, x: Array) -> Shape:
    return tuple(x.shape)


def device(backend: Backend, x: Array) -> Any:
    return None


def location(backend: Backend, x: Array) -> Location:
    return "host"


def needs_grad(backend: Backend, x: Array) -> bool:
    return False


def is_stopped(backend: Backend, x: Array) -> bool:
    return True


# --- primitives ------------------------------------------------------------------------------------------------------


def sizes(backend: Backend, x: Array) -> tuple[Any, ...]:
    return tuple(x.shape)


def nan_unless(backend: Backend, condition: Array, x: Array) -> Array:
    return backend.where(condition, x, float("nan"))


def surely_all(backend: Backend, x: Array) -> bool:
    return False


def stop_gradient(backend: Backend, x: Array) -> Array:
    return x


# --- sums with twice the digits --------------------------------------------------------------------------------------


class Wide(NamedTuple):
    """A number in two parts: the rounded number, and what rounding has cut off."""

    high: Array
    low: Array


def wide_sum(backend: Backend, x: Array, weights: Array | None, *, axis: tuple[int, ...]) -> Wide:
    """In pairs of numbers, with the operators of the arrays only: there may be no wider dtype."""
    high, cut = (x, x - x) if weights is None else compensated.product(x, weights, backend.dtype(x))
    # Nothing is cut off from an infinite number; where a product overflows, the part that is cut off is unknown.
    high, low = (_in_front(backend, part, axis) for part in (high, _finite(backend, cut)))
    count: int = backend.sizes(high)[0]
    if count == 0:
        return Wide(backend.sum(x, axis=axis), backend.sum(x, axis=axis))
    while count > 1:
        half = count // 2
        total, cut = _sum(high[:half, ...], high[half : 2 * half, ...])
        cut = cut + (low[:half, ...] + low[half : 2 * half, ...])
        if count % 2:
            total, cut = (
                backend.concat([part, whole[count - 1 :, ...]], axis=0) for part, whole in ((total, high), (cut, low))
            )
        high, low, count = total, cut, half + count % 2
    kept = tuple(size for i, size in enumerate(backend.sizes(x)) if i not in axis)
    high, low = _sum(backend.reshape(high, kept), _finite(backend, backend.reshape(low, kept)))
    return Wide(high, _finite(backend, low))


def quotient(backend: Backend, numerator: Wide, denominator: Any) -> Array:
    """The rounded quotient after one step of refinement: the remainder of the division is divided too."""
    divisor, low = denominator if isinstance(denominator, Wide) else _parts(backend, denominator, numerator.high)
    is_zero = backend.equal(divisor, 0.0)
    divisor = backend.where(is_zero, 1.0, divisor)
    rounded = numerator.high / divisor
    back, cut = compensated.product(rounded, divisor, backend.dtype(rounded))
    rest = ((numerator.high - back) - cut) + (numerator.low - rounded * low)
    return backend.where(is_zero, 0.0, rounded + _finite(backend, rest / divisor))


def _parts(backend: Backend, denominator: Any, like: Array) -> tuple[Array, Any]:
    """An array or a Python number in two parts, of which the first has no more digits than the dtype."""
    if not isinstance(denominator, (int, float)):
        return denominator, 0.0
    dtype = backend.dtype(like)
    digits = 53 if dtype == "float64" else 24
    fraction, exponent = math.frexp(denominator)
    high = math.ldexp(math.floor(fraction * 2**digits), exponent - digits)
    return backend.ones_like(like, dtype=dtype) * high, denominator - high


def _in_front(backend: Backend, x: Array, axis: tuple[int, ...]) -> Array:
    """``x`` with two axes: first all that are summed over, then all others."""
    sizes = backend.sizes(x)
    others = tuple(i for i in range(len(sizes)) if i not in axis)
    if (*axis, *others) != tuple(range(len(sizes))):
        x = backend.permute_dims(x, (*axis, *others))
    return backend.reshape(x, [math.prod(sizes[i] for i in group) for group in (axis, others)])


def _sum(a: Array, b: Array) -> tuple[Array, Array]:
    """``a + b`` rounded, and what was cut off."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _finite(backend: Backend, x: Array) -> Array:
    return backend.where(backend.isfinite(x), x, 0.0)


# --- what only the framework can do ----------------------------------------------------------------------------------


def scope(backend: Backend, name: str | None) -> AbstractContextManager[Any]:
    return nullcontext()


def with_rank(backend: Backend, x: Array, rank: int) -> Array:
    return x


def sizes_agree(backend: Backend, arrays: Sequence[Array], message: str) -> tuple[Array, list[Array]]:
    """Sizes are always known, so this is never called; it returns a True of the framework for those who try it out."""
    every = backend.ones_like(arrays[0], dtype="bool")
    count = backend.count_nonzero(every, axis=tuple(range(len(backend.shape(every) or ()))))
    return backend.equal(count, count), list(arrays)


def broadcast_like(backend: Backend, x: Array, like: Array, message: str) -> tuple[Array | None, Array]:
    everywhere = backend.ones_like(like, dtype="bool")
    return None, backend.where(everywhere, x, backend.ones_like(like, dtype=backend.dtype(x)))


def vjp(backend: Backend, function: Callable[[Array], Array], x: Array) -> None:
    return None


# --- execution -------------------------------------------------------------------------------------------------------


def differentiable(backend: Backend, op: LossOp, arrays: Arrays) -> tuple[Array, ...]:
    return op.forward(*arrays)[0]


def run(backend: Backend, op: LossOp, arrays: Arrays) -> tuple[Array, ...]:
    return op.forward(*arrays)[0]


def explicit(backend: Backend, op: LossOp, arrays: Arrays) -> LossOp:
    return op


# --- kernels ---------------------------------------------------------------------------------------------------------


def indices(backend: Backend, logits: Array, targets: Array) -> tuple[Array, Array]:
    # In 64 bits, because a narrow dtype may not hold the number of classes. Labels too large for the signed dtype
    # become negative.
    index = backend.astype(targets, "int64")
    classes = (backend.shape(logits) or (0,))[-1]
    legal = (index >= 0) & (index < classes)
    return backend.where(legal, index, 0), legal


def is_highest(backend: Backend, logits: Array, targets: Array) -> Array:
    axis = len(backend.sizes(targets))
    index, legal = backend.indices(logits, targets)
    numbers = backend.astype(backend.arange(backend.sizes(logits)[-1], like=logits), "int64")
    index = backend.expand_dims(backend.astype(index, "int64"), axis=-1)
    own = backend.sum(backend.where(backend.equal(numbers, index), logits, 0.0), axis=(axis,))
    own = backend.expand_dims(own, axis=-1)
    # Not "is above", which is False beside NaN.
    is_beaten = ~backend.where(numbers < index, logits < own, logits <= own)
    return legal & backend.equal(backend.count_nonzero(is_beaten, axis=(axis,)), 0)


ANSWERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *(dense_form, packed_form, shape, device, location, needs_grad, is_stopped),
        *(sizes, nan_unless, surely_all, stop_gradient, wide_sum, quotient),
        *(scope, with_rank, sizes_agree, broadcast_like, vjp),
        *(differentiable, run, explicit, indices, is_highest, chunks.matmul, chunks.linear),
    )
}
"""The functions of the protocol that have a natural answer."""
