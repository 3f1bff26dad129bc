"""Signals that ask the command to end: it ends in order, and leaves nothing behind."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ASKING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, a request to end, and a terminal that was closed. What is ignored when the command starts stays ignored."""


class Ended(KeyboardInterrupt):
    """A signal has asked the process to end; code that handles Ctrl-C handles this too."""

    @property
    def status(self) -> int:
        """The exit status that a shell gives to what a signal has ended."""
        return 128 + int(self.args[0])


class _State:
    """What the handler knows. There is one handler for each process, and so one state."""

    asked = False
    held = False
    pending: int | None = None


@contextmanager
def obeyed() -> Iterator[None]:
    """Inside, the first of the signals raises :class:`Ended`, and the later ones do nothing."""
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: handler for number in ASKING if (handler := signal.getsignal(number)) in usual}
    _State.asked, _State.held, _State.pending = False, False, None
    for number in before:
        signal.signal(number, _end)
    try:
        yield
    finally:
        _State.asked = True
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    # A second one would stop half-way what the first one has begun: ending processes and removing files.
    if _State.asked:
        return
    _State.asked, _State.pending = True, number
    _raise_pending()


@contextmanager
def held() -> Iterator[None]:
    """Inside, a signal waits: for what has to be done as a whole, as making a folder and noting its name."""
    before = _State.held
    _State.held = True
    try:
        yield
    finally:
        _State.held = before
        _raise_pending()


@contextmanager
def allowed() -> Iterator[None]:
    """Inside of :func:`held`: here a signal does not wait, because whoever is around it cleans up."""
    before = _State.held
    _State.held = False
    try:
        _raise_pending()
        yield
    finally:
        _State.held = before


def _raise_pending() -> None:
    if _State.pending is not None and not _State.held:
        number, _State.pending = _State.pending, None
        raise Ended(number)
