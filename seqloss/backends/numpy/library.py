"""The library of C kernels, if there is one: ``native/`` has its sources, ``hatch_build.py`` builds it.

It has no Python in it, and is called with ctypes, which lets other threads run meanwhile.
"""

import functools
import os
from typing import Any, NamedTuple

from seqloss.core import options

PATH = os.path.join(os.path.dirname(__file__), "native", "libseqloss.so")

VERSIONS = ("baseline", "avx2", "avx512")
"""One code for several processors, in the order of ``versions.c``. All give the same bits."""

LAYOUT = 2
"""Of the record in ``call.h``: a library that was built from other sources is not called."""


class Library(NamedTuple):
    """The kernels that run, or why none do: then NumPy computes."""

    version: str | None
    reason: str
    forward: Any = None
    pullback: Any = None
    both: Any = None
    tile: int = 0
    """Up to a multiple of this a prior is filled with zeros."""
    room: Any = None
    """A function of the number of classes: bytes that a thread needs for ``both``."""

    def __str__(self) -> str:
        return f"{'NumPy' if self.version is None else 'C, ' + self.version} ({self.reason})"


@functools.cache
def found() -> Library:
    """What the variable SEQLOSS_NATIVE asks for: "0" is NumPy, "1" the best version for this processor, or a version.

    Without the variable it is the best version too.
    """
    return loaded(os.environ.get("SEQLOSS_NATIVE") or "1")


def loaded(wanted: str, path: str = PATH) -> Library:
    options.variable("SEQLOSS_NATIVE", wanted, ("0", "1", *VERSIONS))
    if wanted == "0":
        return Library(None, "SEQLOSS_NATIVE=0")
    if not os.path.exists(path):
        return Library(None, "installed without a C compiler")
    import ctypes

    try:
        library = ctypes.CDLL(path)
        layout = library.seqloss_layout()
    except (OSError, AttributeError) as error:
        return Library(None, f"the library does not load: {error}")
    if layout != LAYOUT:
        return Library(None, "the library was built from other sources")
    best = VERSIONS[library.seqloss_best_version()]
    options.variable("SEQLOSS_NATIVE", wanted, ("0", "1", *VERSIONS[: VERSIONS.index(best) + 1]), "on this processor")
    version = best if wanted == "1" else wanted
    functions = forward, pullback, both = [
        getattr(library, f"{name}_{version}") for name in ("forward", "pullback", "both")
    ]
    for function in functions:
        function.argtypes, function.restype = [ctypes.c_char_p], None
    reason = f"SEQLOSS_NATIVE={version}" if wanted != "1" else "the best of this processor"
    library.seqloss_room.argtypes, library.seqloss_room.restype = [ctypes.c_int64], ctypes.c_int64
    return Library(version, reason, forward, pullback, both, library.seqloss_tile(), library.seqloss_room)
