"""NumPy: rules as they are. Other frameworks differentiate them, or have NumPy run them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from seqloss.core.protocol import Array, Rule


def fuse(rule: Rule, arrays: Sequence[Any]) -> Array:
    return rule.plain(*arrays)


def float64() -> AbstractContextManager[Any]:
    return nullcontext()


def in_float64(rule: Rule, arrays: Sequence[Any]) -> Array:
    return rule.forward(*arrays)[0]


def on_host(arrays: Sequence[Any]) -> bool:
    return False  # they are NumPy's already


def to_host(x: Array) -> Array:
    return x


def from_host(x: Array, dtype: str, like: Array) -> Array:
    return x


def threads() -> None:
    return None
