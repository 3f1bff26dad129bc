"""The standard streams, any of which may be closed, full, or read by nobody."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from seqloss.core.errors import OptionError

UNREAD = 128 + 13
"""The exit status where the reader of stdout has gone: that of what SIGPIPE ends, which Python does not let happen."""


class ReaderGone(Exception):
    """Nobody reads stdout any more, as after ``| head -1``. That is not an error, and no message is printed."""


def check() -> None:
    """Refuse a closed stdout, before anything is computed that could not be shown."""
    # Otherwise the next file that is opened would be stdin, stdout or stderr.
    with suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(number)
    if sys.stdout is None:
        raise OptionError("stdout is closed, so nothing can be shown; to look at the exit status alone, use >/dev/null")


@contextmanager
def stdout() -> Iterator[None]:
    """Whatever is printed inside is written out at the end, or the error says why not."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _mute(sys.stdout)
        raise ReaderGone from None
    except OSError as error:
        _mute(sys.stdout)
        raise OptionError(f"stdout cannot be written: {reason(error)}") from None


def note(text: str, end: str = "\n") -> None:
    """Write a line to stderr. If that fails, nothing else changes."""
    if sys.stderr is None:
        return
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except OSError:
        _mute(sys.stderr)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at it."""
    return stream is not None and stream.isatty()


def reason(error: OSError) -> str:
    """What the operating system says, without its numbers."""
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.strerror}: {str(error.filename)!r}"


def _mute(stream: Any) -> None:
    """Throw away what is still in the buffer: Python would try again when it ends, and complain."""
    with suppress(OSError, ValueError, AttributeError):  # no stream of the operating system
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
