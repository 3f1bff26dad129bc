"""The archive of a golden file: arrays out of bytes that were checked before anything is allocated for them.

Nothing is evaluated or unpickled: the header of an array is compared with the one that its manifest asks for.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seqloss.testing.golden.errors import GoldenError
from seqloss.testing.golden.manifest import AGAIN, Entry
from seqloss.testing.golden.seqloss_golden_writer import BFLOAT16, OVERHEAD

Array = Any

# The end of a zip archive without a comment: the size of its directory and where it starts stand before the last.
_END = struct.Struct("<4s4H2LH")
# What stands before each array, and its line in the directory, take so many bytes and those of a name.
_LOCAL, _LINE = 30, 46


def arrays_of(path: Path, content: bytes, declared: Mapping[str, Entry]) -> dict[str, Array]:
    """The arrays in an archive by name, as they are declared; bfloat16 as float32."""
    try:
        return _arrays(content, declared)
    except (
        ValueError,
        OSError,
        EOFError,
        RuntimeError,  # an encrypted member; NotImplementedError is one, for what zipfile does not know
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise GoldenError(f"{path} is not an archive of a golden file: {error!s:.300}; {AGAIN}") from None


def _arrays(content: bytes, declared: Mapping[str, Entry]) -> dict[str, Array]:
    _check_directory(content, len(declared))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        names, wanted = [member.filename for member in members], [f"{name}.npy" for name in declared]
        if sorted(names) != sorted(wanted):
            raise ValueError(f"it holds {sorted(names)!r:.100} where the manifest declares {sorted(wanted)!r:.100}")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it holds compressed arrays; a golden file stores them as they are")
        for member in members:
            entry = declared[member.filename.removesuffix(".npy")]
            if not member.file_size == member.compress_size <= entry.nbytes + OVERHEAD:
                raise ValueError(f"{member.filename} takes {member.file_size} bytes, more than its shape")
        _check_layout(content, members)
        return {name: _array(name, archive.read(f"{name}.npy"), entry) for name, entry in declared.items()}


def _check_directory(content: bytes, members: int) -> None:
    """Look at the size of the directory before zipfile makes an object of every line in it."""
    signature, *_, size, _, comment = _END.unpack(content[-_END.size :])
    # The 64-bit form has a directory of its own.
    is_wide = content[-_END.size - 20 : -_END.size].startswith(b"PK\x06\x07")
    if signature != b"PK\x05\x06" or comment or is_wide or size > members * OVERHEAD:
        raise ValueError("its directory is not that of a golden file")


def _check_layout(content: bytes, members: list[zipfile.ZipInfo]) -> None:
    """Refuse bytes that belong to no array, before, between or after them: they could be a file of another kind."""
    *_, size, directory, _ = _END.unpack(content[-_END.size :])
    place = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        extra = int.from_bytes(content[place + _LOCAL - 2 : place + _LOCAL], "little")
        if member.header_offset != place or extra:
            raise ValueError(f"there are bytes around {member.filename} that belong to no array")
        place += _LOCAL + len(member.orig_filename) + member.compress_size
    lines = sum(_LINE + len(member.orig_filename) for member in members)
    if (place, lines, place + lines + _END.size) != (directory, size, len(content)):
        raise ValueError("there are bytes around its directory that belong to no array")


def _array(name: str, content: bytes, entry: Entry) -> Array:
    """The array in a .npy file, whose header may have any padding."""
    start = 10 + int.from_bytes(content[8:10], "little")
    text = f"{{'descr': {entry.stored!r}, 'fortran_order': False, 'shape': {entry.shape!r}, }}"
    if content[:8] != b"\x93NUMPY\x01\x00" or content[10:start].decode("latin-1").rstrip() != text:
        raise ValueError(f"the header of {name} does not say what the manifest says of it")
    if len(content) != start + entry.nbytes:
        raise ValueError(f"{name} has {len(content) - start} bytes, and its shape takes {entry.nbytes}")
    array = np.frombuffer(content, entry.stored, offset=start).reshape(entry.shape)
    if entry.dtype == BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    # A copy is aligned and may be written to; in the byte order of the machine.
    return array.astype(entry.dtype)
