"""A function of the user, called with what was recorded."""

import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any

from seqloss.testing import frameworks
from seqloss.testing.golden.errors import CallError
from seqloss.testing.golden.files import Golden

Array = Any

LOSS = "loss"


def results(
    function: Callable[..., Any], golden: Golden, inputs: Callable[[], dict[str, Array]], backend: str, called: str
) -> dict[str, Array]:
    """What the function makes of the recorded inputs, by the names of results.

    ``inputs`` makes arrays of them, anew for each call, and ``called`` is what errors call the function.
    """
    flags = _flags(function, golden, called)
    returned = function(**inputs(), **flags)
    if isinstance(returned, Mapping):
        return _named(returned, golden, called)
    if not (isinstance(returned, numbers.Number) or hasattr(returned, "shape")):
        raise CallError(
            f"{called} returned a {type(returned).__qualname__}; expected the loss, or results by name as in a dict"
        )
    found = {LOSS: returned} if LOSS in golden.results else {}
    wrt = _differentiable(golden, backend)
    if wrt:
        found.update(_gradients(function, inputs(), flags, wrt, backend, called))
    if not found:
        raise CallError(
            f"{called} returned the loss alone; recorded are {', '.join(golden.results)}: return some of them by name, "
            "as in a dict"
        )
    return {name: found[name] for name in golden.results if name in found}


def _flags(function: Callable[..., Any], golden: Golden, called: str) -> dict[str, Any]:
    """The recorded flags that the function has parameters for."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # one that is written in C may not say what it takes
        return {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {name for name, parameter in signature.parameters.items() if parameter.kind in kinds}
    flags = {name: value for name, value in golden.flags.items() if name in named - golden.inputs.keys()}
    try:
        signature.bind(**golden.inputs, **flags)
    except TypeError as error:
        raise CallError(
            f"{called} cannot be called with what was recorded: {error}; wrap it in a function that takes "
            f"{', '.join(golden.inputs)} by name"
        ) from None
    return flags


def _named(returned: Mapping[str, Any], golden: Golden, called: str) -> dict[str, Array]:
    unknown = [name for name in returned if name not in golden.results]
    if unknown or not returned:
        raise CallError(f"{called} returned the results {unknown}; recorded are {', '.join(golden.results)}")
    return dict(returned)


def _differentiable(golden: Golden, backend: str) -> list[str]:
    """The inputs whose gradients were recorded, where the framework differentiates."""
    if backend == "numpy" or backend not in frameworks.NAMES:
        return []
    return [name for name in golden.inputs if f"d{name}" in golden.results and "float" in golden.dtypes[name]]


def _gradients(
    function: Callable[..., Any],
    given: Mapping[str, Array],
    flags: Mapping[str, Any],
    wrt: list[str],
    backend: str,
    called: str,
) -> dict[str, Array]:
    """The gradients of the sum of what it returns, by the framework."""
    names = list(given)

    def of_arrays(*arrays: Array) -> Array:
        return function(**dict(zip(names, arrays, strict=True)), **flags)

    run = frameworks.load(backend).MODES["eager"](of_arrays, tuple(names.index(name) for name in wrt))
    try:
        _, gradients = run(list(given.values()), None)
    except Exception as error:  # whatever a framework raises where a step cannot be differentiated
        raise CallError(
            f"the gradient of {called} cannot be taken: {type(error).__name__}: {error}; to have the loss alone "
            f"compared, return it by name: {{{LOSS!r}: loss}}"
        ) from error
    return {f"d{name}": gradient for name, gradient in zip(wrt, gradients, strict=True)}
