"""Reading the arrays that a user passes in a file."""

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from seqloss.core.errors import OptionError

Array = Any

_WRITE = "write one with numpy.savez, without objects"

LARGEST = 2**30
"""Bytes of all arrays together. A small file may say that it holds any number of them."""


def read(path: Path, needed: tuple[str, ...] = ("logits", "targets"), others: tuple[str, ...] = ("weights",)) -> Any:
    """The arrays of an ``.npz`` file by name; nothing in it is executed."""
    import numpy as np

    with _opened(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > LARGEST:
                raise OptionError(f"{path} holds {size} bytes of arrays, at most {LARGEST} are read; pass fewer rows")
            file.seek(0)
            with np.load(file, allow_pickle=False) as content:
                names = [name for name in content.files if name in (*needed, *others)]
                arrays = {name: content[name] for name in names}
        except OptionError:
            raise
        # NumPy's reader raises whatever the damage leads it to, pickled objects are a ValueError.
        except Exception as error:
            raise OptionError(f"{path} is not a readable file of arrays ({error}); {_WRITE}") from None
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise OptionError(
            f"{path} has no array {missing[0]!r}; it needs {', '.join(needed)}, and may have {', '.join(others)}"
        )
    return arrays


def _opened(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise OptionError(f"there is no file {path}; {_WRITE}") from None
    except OSError as error:
        raise OptionError(f"{path} cannot be read ({error.strerror}); {_WRITE}") from None
