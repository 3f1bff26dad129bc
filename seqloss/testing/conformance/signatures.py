"""The functions of the protocol: there, and callable as the core calls them."""

import inspect
from collections.abc import Iterator
from typing import Any

from seqloss.core.protocol import Backend

NAMES = tuple(name for name, member in vars(Backend).items() if inspect.isfunction(member) and name[0] != "_")


def violations(backend: Any) -> Iterator[tuple[str, str]]:
    """The name of a function of the protocol, and what is wrong with its signature."""
    for name in NAMES:
        function = getattr(backend, name, None)
        if not callable(function):
            yield name, "missing" if function is None else f"not callable, but a {type(function).__name__}"
            continue
        declared = inspect.signature(getattr(Backend, name))
        parameters = list(declared.parameters.values())[1:]
        wanted = f"({', '.join(str(p) for p in parameters)})"
        if not accepts(function, parameters):
            yield name, f"must take {wanted}, but takes {inspect.signature(function)}"


def accepts(function: Any, parameters: list[inspect.Parameter]) -> bool:
    """Whether a function can be called with all of the parameters, and with those alone that have no default."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # compiled code may hide its signature; calling it will tell
        return True
    needed = [p for p in parameters if p.default is p.empty]
    # What may be given by position or by name must be taken either way.
    positions = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return all(_binds(signature, some, kinds) for some in (needed, parameters) for kinds in (positions, positions[:1]))


def _binds(signature: inspect.Signature, parameters: list[inspect.Parameter], by_position: tuple[Any, ...]) -> bool:
    positional = [p.name for p in parameters if p.kind in by_position]
    keywords = {p.name: p.name for p in parameters if p.kind not in by_position}
    try:
        signature.bind(*positional, **keywords)
    except TypeError:
        return False
    return True
