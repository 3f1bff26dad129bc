"""Rules that NumPy runs on the memory of another framework's arrays.

Where all arrays of a rule are eager and lie in the memory of the host, NumPy's kernel computes the loss and its
gradient for every framework. It is faster there than their own operations, and what it returns are the same bits.
Compiled code, transformations and accelerators never come here.
"""

from collections.abc import Sequence
from typing import Any

from seqloss.core import threads
from seqloss.core.protocol import Array, Rule


def hosted(rule: Any, arrays: Sequence[Any]) -> Rule:
    """The rule, to be run by NumPy if the arrays allow it."""
    return Hosted(rule, rule.backend.dtype(arrays[0])) if rule.backend.on_host(arrays) else rule


class Hosted:
    """A rule run by NumPy. It takes and returns arrays of the framework; its residuals are NumPy's."""

    is_hosted = True

    def __init__(self, rule: Any, dtype: str) -> None:
        from seqloss.backends import numpy as host

        self.rule, self.backend = rule, rule.backend
        self._dtype, self._host, self._on_host = dtype, host, rule.on(host)

    def plain(self, *arrays: Any) -> Array:
        return self.rule.plain(*arrays)

    def forward(self, *arrays: Any) -> tuple[Array, tuple[Any, ...]]:
        views = self._views(arrays)
        with self._host.scope(None), threads.at_most(self.backend.threads()):
            value, residuals = self._on_host.forward(*views)
        # A scalar of its own: an array without axes would be the residual that the caller can write into.
        return self.backend.from_host(value[()], value.dtype.name, arrays[0]), residuals

    def pullback(self, arrays: Sequence[Any], residuals: tuple[Any, ...], cotangent: Array) -> tuple[Array | None, ...]:
        if not self.backend.on_host([*arrays, cotangent]):
            # A transformation of the backward pass alone, such as many cotangents at a time.
            _, residuals = self.rule.forward(*arrays)
            return tuple(self.rule.pullback(arrays, residuals, cotangent))
        views = self._views(arrays)
        with self._host.scope(None), threads.at_most(self.backend.threads()):
            to_logits, *others = self._on_host.pullback(views, residuals, self.backend.to_host(cotangent))
        given = zip(others, arrays[1:], strict=True)
        return self.backend.from_host(to_logits, self._dtype, arrays[0]), *(
            None if gradient is None else self._returned(gradient, x) for gradient, x in given
        )

    def _views(self, arrays: Sequence[Any]) -> list[Any]:
        # The kernel knows the bits of bfloat16 logits; weights are few, and NumPy has no bfloat16.
        return [self.backend.to_host(arrays[0]), *(self._readable(x) for x in arrays[1:])]

    def _readable(self, x: Array | None) -> Any:
        if x is None:
            return None
        is_foreign = self.backend.dtype(x) == "bfloat16"
        return self.backend.to_host(self.backend.astype(x, "float32") if is_foreign else x)

    def _returned(self, gradient: Any, x: Array) -> Array:
        return self.backend.astype(self.backend.from_host(gradient, gradient.dtype.name, x), self.backend.dtype(x))
