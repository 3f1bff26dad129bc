"""Import a loss by its name."""

import importlib
from collections.abc import Callable
from typing import Any

from seqloss.core.errors import ArgumentTypeError, OptionError


def resolve(name: str) -> Callable[..., Any]:
    """Import the loss that a name stands for.

    Parameters
    ----------
    name : str
        ``"package.module:function"``; what comes after the colon may have dots.

    Returns
    -------
    callable
        What the module has under that name.

    Raises
    ------
    OptionError
        If the text does not have this form, if the module cannot be imported, or if it has no such callable.
    ArgumentTypeError
        If the name is not a string.

    See Also
    --------
    seqloss.testing.check_loss : Checks it.

    Examples
    --------
    >>> from seqloss.testing.check import resolve
    >>> resolve("seqloss:sequence_loss").__name__
    'sequence_loss'
    >>> resolve("seqloss.sequence_loss")
    Traceback (most recent call last):
        ...
    seqloss.OptionError: a loss is named as package.module:function, got
    'seqloss.sequence_loss'; is it 'seqloss:sequence_loss'?
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"the name of a loss must be a string, got {name!r}")
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        guess = f"; is it '{':'.join(name.rsplit('.', 1))}'?" if "." in name.strip(".") and not colon else ""
        raise OptionError(f"a loss is named as package.module:function, got {name!r}{guess}")
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
        raise OptionError(
            f"the module of {name!r} cannot be imported: {type(error).__name__}: {error}; run this where "
            f"`python -c 'import {module_name}'` works"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise OptionError(f"{name!r} does not exist: {getattr(found, '__name__', found)!r} has no {part!r}")
        found = getattr(found, part)
    if not callable(found):
        raise OptionError(
            f"{name!r} is not callable, it is a {type(found).__name__}; name a function or a class of losses"
        )
    callable_: Callable[..., Any] = found
    return callable_
