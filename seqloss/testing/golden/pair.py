"""The two files of a recording as they belong together, while other programs may be recording anew."""

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from seqloss.testing.golden import manifest
from seqloss.testing.golden.errors import GoldenError
from seqloss.testing.golden.manifest import AGAIN, Manifest
from seqloss.testing.golden.seqloss_golden_writer import (
    LARGEST,
    OVERHEAD,
    GoldenWriteError,
    leftovers,
    paths,
    room,
    staged,
)

Pair = tuple[Path, Path]

_VALUES = manifest.RANK + 8
"""At most so many commas and brackets are about an array: those between its sizes, and a few."""


def named(path: Any) -> Pair:
    """The archive and the manifest that a path stands for."""
    try:
        return paths(path)
    except GoldenWriteError as error:
        raise GoldenError(str(error)) from None


def read(pair: Pair, largest: int) -> tuple[Manifest, bytes]:
    """What the manifest says, and the archive that it names; whoever records anew meanwhile makes us look again."""
    while True:
        before = _state(pair[1])
        try:
            return _read(pair, largest)
        except (GoldenError, OSError):
            if _state(pair[1]) == before:
                raise


def _state(path: Path) -> Any:
    """What is another one for each file that has taken this place."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(pair: Pair, largest: int) -> tuple[Manifest, bytes]:
    path, manifest_path = pair
    if not manifest_path.exists():
        if path.exists():
            raise GoldenError(_half(path, manifest_path))
        raise FileNotFoundError(f"there is no {path}; a recording is {path.name} and {manifest_path.name}")
    about = manifest.parse(manifest_path, _text(pair))
    size = sum(entry.nbytes + OVERHEAD for entry in about.arrays.values())
    if size > largest:
        limit = f"largest={largest}; raise it" if largest < LARGEST else f"the {largest} that a recording may have"
        raise GoldenError(f"{manifest_path} declares arrays of {size} bytes, more than {limit}")
    return about, _named_by(about, pair, min(size, largest))


def _half(there: Path, missing: Path) -> str:
    return f"{there} is there, but not {missing}: a golden file is the pair; copy both"


def _text(pair: Pair) -> bytes:
    """The manifest, if it is no larger than its arrays can need."""
    # Twice what is written: line ends and indents may be others now.
    path, largest = pair[1], 2 * room(0)
    if path.stat().st_size <= largest:
        return _content(path, largest)
    sizes = []
    # The archive may move from its other name to its own while we look.
    for place in (pair[0], *leftovers(pair), pair[0]):
        with suppress(OSError):
            sizes.append(place.stat().st_size)
    if not sizes:
        raise GoldenError(_half(path, pair[0]))
    text = _content(path, 2 * room(max(sizes)))
    # A list takes two bytes here, and fifty when it is read.
    if sum(map(text.count, (b",", b"[", b"{"))) > largest + _VALUES * (room(max(sizes)) - room(0)) // OVERHEAD:
        raise GoldenError(f"{path} holds more than its arrays can need; it is damaged or something else")
    return text


def _named_by(about: Manifest, pair: Pair, largest: int) -> bytes:
    """The archive with the hash that the manifest has."""
    path = pair[0]
    # For the last time under its own name, where it is by now if it has left the other one in between.
    for place in (path, staged(path, about.sha256)):
        with suppress(GoldenError, OSError):
            return _archive(place, about, largest)
    try:
        return _archive(path, about, largest)
    except FileNotFoundError:
        raise GoldenError(_half(pair[1], path)) from None


def _archive(path: Path, about: Manifest, largest: int) -> bytes:
    content = _content(path, largest)
    if len(content) != about.bytes:
        raise GoldenError(
            f"{path} has {len(content)} bytes, and its manifest says {about.bytes}: it is cut off, or belongs to "
            f"another recording; {AGAIN}"
        )
    if hashlib.sha256(content).hexdigest() != about.sha256:
        raise GoldenError(
            f"{path} is not the file that its manifest describes: the SHA-256 differs, so it was changed, is damaged, "
            f"or belongs to another recording; {AGAIN}"
        )
    return content


def _content(path: Path, largest: int) -> bytes:
    """The bytes of a file, if they are not too many. A pipe or a device would never end, so it is not opened."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise GoldenError(f"{path} is not a regular file; copy its content to one")
    if status.st_size > largest:
        raise GoldenError(f"{path} has more than the {largest} bytes that it may have; it is damaged or something else")
    with open(path, "rb") as file:
        return file.read(status.st_size)
