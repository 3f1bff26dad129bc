"""The options that choose backends, and what becomes of each."""

import argparse
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from seqloss.commands import streams
from seqloss.core import dispatch, extras
from seqloss.core.errors import BackendError, OptionError

LONGEST_TIMEOUT = 86400
"""A day, in seconds."""


class Choice(NamedTuple):
    """The backends to run, those that would run if they were installed, and those that options have registered."""

    chosen: list[str]
    missing: list[str]
    registered: dict[str, str]


def add_arguments(parser: argparse.ArgumentParser, timeout: float = 600.0, each: str = "backend") -> None:
    """``--backends``, ``--register`` and ``--timeout``."""
    add = parser.add_argument
    add("--backends", metavar="A,B", help="only these backends, tf and pytorch too (default: all that are installed)")
    add(
        "--register",
        action="append",
        default=[],
        metavar="FRAMEWORK=MODULE",
        help="add the backend that MODULE implements for the arrays of FRAMEWORK; may be repeated",
    )
    add(
        "--timeout",
        type=seconds,
        default=timeout,
        metavar="SECONDS",
        help=f"how long each {each} may take (default: {timeout:g})",
    )


def select(options: argparse.Namespace) -> Choice:
    """What the options ask for."""
    registered = _register(options.register)
    return Choice(*_select(options.backends), registered)


def need_numpy(what: str) -> None:
    """Say so if NumPy is not there."""
    if not is_installed("numpy"):
        raise BackendError(f"NumPy is not installed, and {what} needs it; {extras.add('numpy')}")


def _register(pairs: list[str]) -> dict[str, str]:
    """The third-party backends by framework, registered."""
    for pair in pairs:
        framework, _, module = pair.partition("=")
        if not framework.isidentifier() or not all(name.isidentifier() for name in module.split(".")):
            raise OptionError(f"--register takes FRAMEWORK=MODULE, two names of modules, got {pair!r}")
        dispatch.register_backend(framework, module)
        # Only the top-level package can be looked for without importing anything.
        for name in (framework, module.partition(".")[0]):
            if not is_installed(name):
                raise BackendError(f"--register {pair}: there is no module {name!r} to import")
    return dict(pair.split("=") for pair in pairs)


def _select(requested: str | None) -> tuple[list[str], list[str]]:
    known = dispatch.frameworks()
    given = known if requested is None else (name.strip() for name in requested.split(","))
    names = [dispatch.framework_called(name) for name in given]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BackendError(f"unknown backend {unknown[0]!r}; choose from {', '.join(known)}")
    installed = [name for name in dict.fromkeys(names) if is_installed(name)]
    missing = [name for name in dict.fromkeys(names) if name not in installed]
    if missing and requested is not None:
        raise BackendError(f"{missing[0]} is not installed; {extras.add(missing[0])}")
    return installed, missing


def is_installed(framework: str) -> bool:
    """Whether the framework could be imported, found out without importing it."""
    try:
        spec = find_spec(framework)
    except ValueError:  # a module without a specification, as __main__
        return False
    # A folder that happens to have the name is a "namespace package" and has no origin.
    return spec is not None and spec.origin is not None


def version(framework: str) -> str:
    """What the framework says, which is imported: only in a process of its own."""
    return str(getattr(import_module(framework), "__version__", "unknown"))


@contextmanager
def progress(message: str) -> Iterator[None]:
    """The progress, on stderr: on a terminal it is shown while it lasts, else as a line."""
    if not streams.is_terminal(sys.stderr):
        streams.note(message)
        yield
    elif find_spec("rich") is not None:
        from rich.console import Console

        with Console(stderr=True, markup=False, highlight=False).status(message):
            yield
    else:
        streams.note(f"\r\x1b[K{message}", end="")
        try:
            yield
        finally:
            streams.note("\r\x1b[K", end="")


def seconds(value: str) -> float:
    """A time limit, as argparse wants its types."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number <= LONGEST_TIMEOUT:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of seconds between 0 and {LONGEST_TIMEOUT}")
    return number
