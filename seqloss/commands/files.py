"""Files that are written as a whole or not at all."""

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from seqloss.commands import signals


def check(path: Path) -> None:
    """Raise an OSError if the file cannot be written; it stays as it is."""
    path = Path(os.path.realpath(path))
    with suppress(FileNotFoundError):
        os.stat(path)  # unlike os.path.exists it says what is wrong with a name
    if not os.path.exists(path) or _replaceable(path):
        with signals.held():
            temporary = _beside(path)
            open(temporary, "xb").close()
            os.unlink(temporary)
    if os.path.isfile(path):
        open(path, "ab").close()


def write(path: Path, content: bytes) -> None:
    """Replace the file by the content; if anything goes wrong the file stays as it was."""
    path = Path(os.path.realpath(path))  # a link stays a link
    there = os.path.exists(path)
    if there and not _replaceable(path):
        path.write_bytes(content)
        return
    with signals.held():
        temporary = _beside(path)
        try:
            with open(temporary, "xb") as file:
                file.write(content)
            if there:
                shutil.copymode(path, temporary)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _replaceable(path: Path) -> bool:
    """Not a device, a pipe, a file that is mounted by itself, or one in a folder that takes no other."""
    return os.path.isfile(path) and not os.path.ismount(path) and os.access(path.parent, os.W_OK)


def _beside(path: Path) -> Path:
    # Of few letters: a name may be as long as the system allows.
    return path.with_name(f".{uuid.uuid4().hex}.part")
