"""The options that a module keeps are read off the function that it calls."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from seqloss.core.options import is_bool, known
from seqloss.core.smoothing import Smoothing


def of(function: Callable[..., Any], without: Iterable[str]) -> inspect.Signature:
    """The arguments of a function but for those of a batch, all as keywords."""
    return inspect.Signature(
        [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(function).parameters.items()
            if name not in without
        ]
    )


def given(owner: str, signature: inspect.Signature, options: dict[str, Any], call: str) -> dict[str, Any]:
    """All options of a module, of which a caller gave some; ``call`` takes what belongs to a batch."""
    known(owner, options, signature.parameters, f"Pass what belongs to a batch, such as weights, to {call}")
    return {name: options.get(name, parameter.default) for name, parameter in signature.parameters.items()}


def shown(signature: inspect.Signature, given: dict[str, Any]) -> str:
    """Options that are not as they are by default, as arguments."""
    return ", ".join(
        f"{name}={_value(given[name])}"
        for name, parameter in signature.parameters.items()
        if not _is(given[name], parameter.default)
    )


def _is(value: Any, default: Any) -> bool:
    # Tensors are not compared, which would give a tensor; none is there by default.
    return value is default or ((isinstance(value, (int, float, str)) or is_bool(value)) and bool(value == default))


def _value(value: Any) -> str:
    if isinstance(value, Smoothing):
        defaults = Smoothing._field_defaults
        fields = [
            f"{name}={_value(x)}"
            for name, x in zip(value._fields, value, strict=True)
            if name not in defaults or not (_is(x, defaults[name]) or (isinstance(x, tuple) and not x))
        ]
        return f"Smoothing({', '.join(fields)})"
    if getattr(value, "shape", ()):
        return f"<{len(value)} classes>"
    return getattr(value, "__name__", None) or repr(value)
