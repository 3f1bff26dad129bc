"""Operations as one: what ``differentiable``, ``run`` and ``explicit`` return, and their derivatives."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from seqloss.core.contract import Spec
from seqloss.core.protocol import Array, Backend
from seqloss.losses.kernels import TokenKernel
from seqloss.testing import oracle_statistics, tolerances
from seqloss.testing.conformance.comparing import FINITE, INTS, Check, different, form, several, values
from seqloss.testing.conformance.ops import Product

Y = INTS.astype(np.float32)
LABELS = np.array([0, 2, 1])
SLOPES = {
    "the first output": ((1, 0), (Y, FINITE)),
    "the second output": ((0, 1), (np.ones_like(Y), np.ones_like(Y))),
    "twice the first output and the second": ((2, 1), (2 * Y + 1, 2 * FINITE + 1)),
}
"""Functions of the two outputs of :class:`Product`: their coefficients, and the derivatives by x and y."""


def _given(backend: Backend) -> list[Array | None]:
    return [backend.asarray(FINITE), backend.asarray(Y), None, backend.asarray(LABELS)]


def _outputs(backend: Backend, what: str, got: Any) -> Iterator[str]:
    if not isinstance(got, tuple) or len(got) != 2:
        yield f"{what}: returns {got!r}, expected a tuple of the two outputs"
        return
    yield from different(backend, f"{what}: x * y", got[0], FINITE * Y)
    yield from different(backend, f"{what}: x + y", got[1], FINITE + Y)


def _as_one(hook: str) -> Check:
    """The check of ``differentiable`` or ``run``, which must agree."""

    def check(backend: Backend) -> Iterator[str]:
        for opaque in (False, True):
            what = "of an opaque operation" if opaque else "of an operation"
            op, arrays = Product(backend, opaque), _given(backend)

            def call(*arrays: Any, op: Product = op) -> Any:
                return getattr(backend, hook)(op, list(arrays))

            with backend.scope(None):
                yield from _outputs(backend, what, call(*arrays))
                yield from _slopes(backend, what, call, arrays)

    return check


def _slopes(backend: Backend, what: str, call: Callable[..., Any], arrays: list[Array | None]) -> Iterator[str]:
    g = 2 * FINITE
    for name, (coefficients, slopes) in SLOPES.items():
        for place, expected in enumerate(slopes):

            def function(x: Array, place: int = place, coefficients: tuple[int, ...] = coefficients) -> Any:
                outputs = call(*(x if i == place else other for i, other in enumerate(arrays)))
                terms = [out if k == 1 else out * float(k) for k, out in zip(coefficients, outputs, strict=True) if k]
                return terms[0] if len(terms) == 1 else terms[0] + terms[1]

            differentiated = backend.vjp(function, arrays[place])
            if differentiated is not None:
                got = differentiated[1](backend.asarray(g))
                yield from different(backend, f"{what}: the cotangent of {'xy'[place]} for {name}", got, g * expected)


def _explicit(backend: Backend) -> Iterator[str]:
    for opaque in (False, True):
        what = "of an opaque operation" if opaque else "of an operation"
        arrays = _given(backend)
        op = backend.explicit(Product(backend, opaque), arrays)
        with backend.scope(None):
            outputs, residuals = op.forward(*arrays)
            yield from _outputs(backend, what, outputs)
            for name, (coefficients, slopes) in SLOPES.items():
                cotangents = [backend.asarray(k * FINITE) if k else None for k in coefficients]
                gradients = op.pullback(arrays, residuals, cotangents)
                if len(gradients) != len(arrays) or any(x is not None for x in gradients[2:]):
                    yield f"{what}: pullback returns {gradients!r}, expected gradients of two arrays and twice None"
                    continue
                for label, got, expected in zip("xy", gradients, slopes, strict=False):
                    yield from different(backend, f"{what}: the gradient of {label} for {name}", got, FINITE * expected)


def _kernel(hook: str) -> Check:
    """The kernel pair as an operation: half precision in, and a row that is masked."""

    def check(backend: Backend) -> Iterator[str]:
        z = np.array([[0.5, -1, 25], [0.5, np.nan, 1], [2, -np.inf, 1]], np.float32)
        y, active, g = np.array([2, -100, 0]), np.array([True, False, True]), np.array([0.5, 1, 2], np.float32)
        op = TokenKernel(backend, Spec("float32", lse=True))
        arrays = [backend.asarray(z), backend.asarray(y), backend.asarray(active), None]
        exact = oracle_statistics.of_tokens(z, y)
        used = np.where(active, g, 0)
        rows, _ = oracle_statistics.pulled(exact, used, used)
        bound = tolerances.token_bound(z)

        def both(logits: Array) -> Any:
            nll, lse = getattr(backend, hook)(op, [logits, *arrays[1:]])
            return nll + lse

        with backend.scope(None):
            outputs = getattr(backend, hook)(op, arrays)
            for name, got in zip(("nll", "lse"), outputs, strict=True):
                yield from form(backend, f"of a kernel: {name}", got, y.shape, "float32")
                expected = np.where(active, getattr(exact, name), 0)
                scale = np.asarray(1.0 if name == "lse" else 0.0) * active
                yield from values(backend, f"of a kernel: {name}", got, expected, bound, "float32", scale)
            differentiated = backend.vjp(both, arrays[0])
            if differentiated is not None:
                got = differentiated[1](backend.asarray(g))
                yield from form(backend, "of a kernel: the gradient", got, z.shape, "float32")
                scale = np.where(active[:, None], 1.0, 0.0) * (rows != 0)
                yield from values(backend, "of a kernel: the gradient", got, rows, bound[:, None], "float32", scale)

    return check


CHECKS: dict[str, Check] = {
    "differentiable": several(_as_one("differentiable"), _kernel("differentiable")),
    "run": several(_as_one("run"), _kernel("run")),
    "explicit": _explicit,
}
