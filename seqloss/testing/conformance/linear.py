"""The products of matrices and the loop of the linear loss, with small numbers whose products are exact."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from seqloss.core.linear import LinearSpec, Tokens
from seqloss.core.protocol import Array, Backend
from seqloss.testing.conformance.comparing import Check, different, float_dtypes, placed

NAN = float("nan")
HIDDEN = np.array([[1, 2], [0, -1], [3, 1], [-2, 0.5], [1, 1]])
"""[tokens, features]; there is an odd number of tokens, so that the last chunk is shorter."""
KERNEL = np.array([[1, 0, -1], [2, 1, 4]])
BIAS = np.array([0.5, -1, 2])
COTANGENTS = np.array([1, 0, 2, -1, 3])
"""One token has none: what its row of hidden holds must reach no gradient."""


def _matmul(backend: Backend) -> Iterator[str]:
    for dtype in float_dtypes(backend):
        for wide in ("float32", "float64"):
            if wide not in float_dtypes(backend) or (wide, dtype) == ("float32", "float64"):
                continue
            what = f"of {dtype} in {wide}"
            a, b = placed(backend, HIDDEN, dtype), placed(backend, KERNEL, dtype)
            yield from different(backend, what, backend.matmul(a, b, dtype=wide), (HIDDEN @ KERNEL).astype(wide))
            turned = backend.permute_dims(placed(backend, KERNEL.T, dtype), (1, 0))
            got = backend.matmul(a, turned, dtype=wide)
            yield from different(backend, f"{what}, of a transposed array,", got, (HIDDEN @ KERNEL).astype(wide))
            # 4,097 is neither a float16 nor a bfloat16, and a sum of ones in these stops at 2,048 or 256.
            ones = placed(backend, np.ones((1, 4097)), dtype), placed(backend, np.ones((4097, 1)), dtype)
            got = backend.matmul(*ones, dtype=wide)
            yield from different(backend, f"{what}, of 4,097 ones,", got, np.full((1, 1), 4097, wide))
    if "float16" in float_dtypes(backend):
        got = backend.matmul(placed(backend, HIDDEN, "float16"), placed(backend, KERNEL, "float32"), dtype="float32")
        yield from different(backend, "of float16 and float32", got, (HIDDEN @ KERNEL).astype("float32"))


def _linear(backend: Backend) -> Iterator[str]:
    """The step adds up the logits of a token, whose gradient is then the cotangent at each class."""

    def step(logits: Array, of: Tokens) -> tuple[tuple[Array], Array | None]:
        losses = backend.sum(logits, axis=(-1,))
        if of.active is not None:
            losses = backend.where(of.active, losses, 0.0)
        if of.cotangents is None:
            return (losses,), None
        return (losses,), backend.expand_dims(of.cotangents, axis=-1) * backend.ones_like(logits, dtype="float32")

    logits = HIDDEN @ KERNEL + BIAS
    outer = COTANGENTS[:, None] * np.ones_like(logits)
    expected = {"hidden": outer @ KERNEL.T, "kernel": HIDDEN.T @ outer, "bias": outer.sum(0)}
    for chunk, masked, names in (
        (None, False, (*expected,)),
        (2, True, (*expected,)),
        (1, True, ("kernel",)),
        (2, False, ()),
    ):
        hidden, losses = HIDDEN.copy(), logits.sum(-1)
        if masked:
            hidden[1], losses = NAN, np.where(COTANGENTS != 0, losses, 0)
        spec = LinearSpec("float32", chunk, *(name in names for name in expected))
        x, kernel, bias = _arrays(backend, hidden)
        found = backend.linear(step, x, kernel, bias, _tokens(backend, masked, bool(names)), spec)
        what = f"in chunks of {chunk}{' with a NaN' if masked else ''}, wrt {', '.join(names) or 'nothing'},"
        yield from _compared(backend, what, found, losses, {n: expected[n] for n in names})
    nothing = Tokens(*[None if x is None else x[:, :0] for x in _tokens(backend, True, True)])
    x, kernel, bias = _arrays(backend, HIDDEN)
    found = backend.linear(step, x[:, :0, ...], kernel, bias, nothing, LinearSpec("float32", None, True, True, True))
    zeros = {"hidden": np.zeros((0, 2)), "kernel": np.zeros((2, 3)), "bias": np.zeros(3)}
    yield from _compared(backend, "of no tokens", found, np.zeros(0), zeros)


def _arrays(backend: Backend, hidden: Array) -> list[Array]:
    return [backend.asarray(x.astype("float32")) for x in (hidden[None], KERNEL, BIAS)]


def _tokens(backend: Backend, masked: bool, has_cotangents: bool) -> Tokens:
    targets, cotangents = np.zeros((1, 5), "int32"), COTANGENTS[None].astype("float32")
    active = backend.asarray(COTANGENTS[None] != 0) if masked else None
    given = backend.asarray(cotangents) if has_cotangents else None
    return Tokens(backend.asarray(targets), active, None, None, given)


def _compared(backend: Backend, what: str, found: Any, losses: Array, gradients: dict[str, Array]) -> Iterator[str]:
    outputs, *rest = found
    yield from different(backend, f"{what} the losses", outputs[0], losses[None].astype("float32"))
    for name, got in zip(("hidden", "kernel", "bias"), rest, strict=True):
        if name not in gradients:
            if got is not None:
                yield f"{what} the gradient of {name} is a {type(got).__qualname__}, expected None: nobody asked for it"
            continue
        expected = gradients[name][None] if name == "hidden" else gradients[name]
        yield from different(backend, f"{what} the gradient of {name}", got, expected.astype("float32"))


CHECKS: dict[str, Check] = {"matmul": _matmul, "linear": _linear}
