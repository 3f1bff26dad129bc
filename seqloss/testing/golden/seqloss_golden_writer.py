"""Writes golden files: the arrays that a function was given and what it returned, for another program to check.

This file works by itself: copy it beside a training script. It needs NumPy 1.16 or later and runs on Python 3.7 and
later, so that a program on TensorFlow 1.15 can record what a newer program is to be checked against::

    import seqloss_golden_writer
    loss, dlogits = session.run([loss, dlogits], feed)
    seqloss_golden_writer.write(
        "model", {"logits": ..., "targets": ..., "weights": ...}, {"loss": loss, "dlogits": dlogits}, device="cpu"
    )

``seqloss.testing.golden`` reads and checks the pair ``model.npz`` and ``model.json``.

Two files cannot be replaced at once. So the manifest is the one that counts: it has the hash of its archive, and the
archive stands beside it under a name with that hash until it has taken the place of the old one. Whenever a writer is
ended, the old recording or the new one is read. A lock, which ends with its process, keeps writers apart.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import platform
import re
import sys
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FORMAT, VERSION = "seqloss-golden", 1
INPUT, RESULT = "input", "result"
BFLOAT16 = "bfloat16"
"""NumPy has no such dtype: the file holds the bits as uint16."""
DTYPES = {"bool": "|b1", "int8": "|i1", "uint8": "|u1", BFLOAT16: "<u2"}
DTYPES.update({f"{kind}{8 * n}": f"<{kind[0]}{n}" for kind in ("int", "uint", "float") for n in (2, 4, 8)})
"""What can be recorded, with the form in which it is stored."""
LARGEST = 2**31 - 2**20
"""A larger archive would need another form of directory, and is no golden file to keep in a repository."""
OVERHEAD = 2048
"""More than the headers and the line in the directory take for an array, and more than its lines in the manifest."""
SMALLEST = 214
"""So many bytes the smallest array takes in an archive."""
MEMBERS = 2**16 - 2
"""One more is the sign of the other form of directory."""
TEXTS = 2**20
"""How many bytes of a manifest may be about something other than arrays."""
RANK = 32
"""NumPy 1 has no arrays of more axes."""
DIGITS = 640
"""Every Python reads an integer of so many digits; its limit may be set no lower."""
PATIENCE = 60.0
"""So many seconds a writer waits for another one."""
WITH_READERS = 10.0 if sys.platform == "win32" else 0.0
"""How many seconds it waits for readers: Windows does not replace an open file."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
RECORDED = ("tensorflow", "tensorflow_addons", "torch", "jax", "seqloss")
"""The modules whose versions are recorded, if the program has imported them."""


class GoldenWriteError(ValueError):
    """What was to be written cannot be read back by everybody."""


def write(
    path: Any,
    inputs: Any,
    results: Any,
    *,
    function: str = "sequence_loss",
    flags: Any = None,
    note: str | None = None,
    device: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write NAME.npz and NAME.json; return the path of the former.

    ``path`` is NAME, with or without a suffix. ``inputs`` and ``results`` map names to arrays or numbers; in a graph of
    TensorFlow 1 these are what ``Session.run`` returned. ``function`` is what was computed, ``flags`` its options as
    booleans, numbers and strings, ``device`` where it ran. Equal content gives equal bytes. Files that are there stay
    as they are unless ``overwrite`` is true. The two are replaced together: whenever the program is ended, the old
    recording or the new one can be read.
    """
    pair = paths(path)
    arrays = _arrays(inputs, results)
    archive = archived({name: array for name, (_, _, array) in arrays.items()})
    sha256 = hashlib.sha256(archive).hexdigest()
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "sha256": sha256,
        "bytes": len(archive),
        "function": _text("function", function),
        "flags": _flags(flags),
        "note": None if note is None else _text("note", note),
        "versions": versions(),
        "device": None if device is None else _text("device", device),
        "arrays": {
            name: {"role": role, "dtype": dtype, "shape": list(array.shape)}
            for name, (role, dtype, array) in arrays.items()
        },
    }
    manifest["manifest_sha256"] = seal(manifest)
    text, largest = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode("ascii"), room(len(archive))
    if len(text) > largest:
        raise GoldenWriteError(
            f"the manifest takes {len(text)} bytes, more than the {largest} allowed with an archive of {len(archive)}; "
            "shorten the note and the flags, or keep long ones in a file of their own"
        )
    check_free(pair, overwrite)
    with _alone(pair[0]):
        check_free(pair, overwrite)
        _put(pair, sha256, archive, text)
    return pair[0]


def paths(path: Any) -> tuple[Path, Path]:
    """The archive and the manifest that a path stands for: the suffix may be that of either, or left out."""
    name = given = os.fspath(path)
    if not isinstance(name, str):
        raise GoldenWriteError(f"the path must be a string or a Path, got {path!r}")
    if name.endswith((".npz", ".json")):
        name = name[: name.rindex(".")]
    if os.path.basename(name) in ("", ".", ".."):
        raise GoldenWriteError(f"the path {given!r} names no file")
    try:
        if b"\0" not in os.fsencode(name):
            return Path(name + ".npz"), Path(name + ".json")
    except UnicodeEncodeError:
        pass
    raise GoldenWriteError(f"the path {given!r} has characters that no name of a file can have")


def check_free(pair: Any, overwrite: bool, how: str = "overwrite=True") -> None:
    """Refuse to write over files that are there, unless that is wanted; ``how`` is the way to want it."""
    for existing in pair:
        if existing.is_dir():
            raise GoldenWriteError(f"{existing} is a folder; choose another name")
        if existing.exists() and not overwrite:
            raise GoldenWriteError(f"{existing} exists; pass {how} to record it again")


def room(size: int) -> int:
    """How many bytes a manifest may take beside an archive of this size: no more than its arrays can need."""
    return TEXTS + OVERHEAD * min(size // SMALLEST, MEMBERS)


def seal(manifest: Any) -> str:
    """The hash of what a manifest says, however it is laid out as text."""
    facts = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def versions() -> dict[str, str]:
    """The versions of Python, NumPy and the frameworks that the program has imported."""
    found = {"python": platform.python_version(), "numpy": np.__version__}
    for name in RECORDED:
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            found[name] = version
    return found


def archived(arrays: Any) -> bytes:
    """A zip archive of .npy files, the same bytes in every year and on every machine.

    Nothing is compressed: the bytes of a compressor depend on its version, and what is not compressed cannot expand.
    """
    if len(arrays) > MEMBERS:
        raise GoldenWriteError(f"there are {len(arrays)} arrays, more than {MEMBERS}; stack those that belong together")
    size = sum(array.nbytes + OVERHEAD for array in arrays.values())
    if size > LARGEST:
        raise GoldenWriteError(f"the arrays take {size} bytes, more than {LARGEST}; record a smaller batch")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o644 << 16
            archive.writestr(member, header(arrays[name].dtype.str, arrays[name].shape) + arrays[name].tobytes())
    return buffer.getvalue()


def header(dtype: str, shape: Any) -> bytes:
    """The first bytes of a .npy file of version 1.0, as NumPy 1.16 wrote it; later ones leave more space."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {tuple(map(int, shape))!r}, }}"
    padded = text + " " * (-(10 + len(text) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + bytes((len(padded) % 256, len(padded) // 256)) + padded.encode("ascii")


def _arrays(inputs: Any, results: Any) -> dict[str, Any]:
    """For each name the role, the name of the dtype, and the array that stands in the file."""
    arrays = {}
    for role, given in ((INPUT, inputs), (RESULT, results)):
        if not hasattr(given, "keys"):
            raise GoldenWriteError(f"{role}s must map names to arrays, got a {type(given).__name__}")
        for name in given:
            if not isinstance(name, str) or not NAME.match(name):
                raise GoldenWriteError(
                    f"{name!r} is not a name for an array: take a letter, then letters, digits and _"
                )
            if name in arrays:
                raise GoldenWriteError(f"{name} is both an input and a result; give the result another name")
            arrays[name] = (role, *_stored(name, given[name]))
        if not len(given):
            raise GoldenWriteError(f"there is no {role} to record; give at least one")
    return arrays


def _stored(name: str, value: Any) -> tuple[str, Any]:
    """The name of the dtype of a value, and the array that stands in the file."""
    if isinstance(value, np.ma.MaskedArray):
        raise GoldenWriteError(f"{name} is a masked array; fill it and record the mask as weights")
    narrow = False
    try:
        if hasattr(value, "detach"):  # PyTorch refuses NumPy's conversion where gradients are required
            value = value.detach().cpu()
            narrow = str(value.dtype) == "torch.bfloat16"
        array = np.asarray(value.float().numpy() if narrow else value)
    except Exception as error:
        raise GoldenWriteError(
            f"{name} is a {type(value).__name__} that has no values for NumPy to take; in a graph of TensorFlow 1 "
            "record what Session.run returned"
        ) from error
    kind = BFLOAT16 if narrow else array.dtype.name
    if kind not in DTYPES:
        raise GoldenWriteError(
            f"{name} is an array of {kind}, which other programs could not read; cast it to one of {', '.join(DTYPES)}"
        )
    if array.ndim > RANK:
        raise GoldenWriteError(f"{name} has {array.ndim} axes, more than {RANK}; reshape it")
    product = 1
    for size in array.shape:
        product *= size or 1
    if not array.size and product > LARGEST:
        raise GoldenWriteError(
            f"{name} has the shape {list(array.shape)}: no entries, and sizes beside the 0 that multiply to more than "
            f"{LARGEST}; record a smaller one"
        )
    if narrow:
        array = array.view(np.uint32) >> 16  # float32 has the same bits and 16 more, all of them 0
    elif kind == BFLOAT16:
        array = array.view(np.uint16)
    return kind, array.astype(DTYPES[kind], copy=False)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise GoldenWriteError(f"{name} must be a string, got {value!r}")
    return value


def _flags(flags: Any) -> dict[str, Any]:
    """The flags as JSON can hold them; anything else would not mean the same to the reader."""
    if flags is not None and not hasattr(flags, "keys"):
        raise GoldenWriteError(f"flags must map names to values, got a {type(flags).__name__}")
    plain = {}
    for name, value in dict(flags or {}).items():
        value = value.item() if isinstance(value, np.generic) else value
        legal = value is None or isinstance(value, (bool, int, str))
        if not isinstance(name, str) or not (legal or (isinstance(value, float) and math.isfinite(value))):
            raise GoldenWriteError(
                f"the flag {name!r} is {value!r}; expected a bool, a finite number, a string or None"
            )
        if isinstance(value, int) and abs(value) >= 10**DIGITS:
            raise GoldenWriteError(f"the flag {name!r} is an integer of more than {DIGITS} digits; pass it as a string")
        plain[name] = value
    return plain


def staged(archive_path: Path, sha256: str) -> Path:
    """Where an archive is read from by its hash, until it has taken its place."""
    return Path(f"{archive_path}.{sha256[:16]}")


def leftovers(pair: Any) -> list[Path]:
    """What writers of this pair are at work on, or had been when they were killed."""
    folder, archive, manifest = pair[0].parent, re.escape(pair[0].name), re.escape(pair[1].name)
    ours = re.compile(rf"{archive}\.[0-9a-f]{{16}}(\.[0-9a-f]{{8}}\.part)?\Z|{manifest}\.[0-9a-f]{{8}}\.part\Z")
    return [folder / name for name in os.listdir(folder) if ours.match(name)]


def _put(pair: Any, sha256: str, archive: bytes, text: bytes) -> None:
    """Replace both files. What is read is what the manifest names, so the new recording counts from its rename on."""
    archive_path, manifest_path = pair
    waiting = staged(archive_path, sha256)
    _settle(pair)
    try:
        _replace(waiting, archive)
        _replace(manifest_path, text)
        _move(waiting, archive_path)
    except BaseException:
        # Whether the new recording counts already, the manifest knows.
        with contextlib.suppress(OSError):
            _settle(pair)
        raise


def _settle(pair: Any) -> None:
    """Finish what a writer has left that was ended between the two files, and remove what was never read."""
    try:
        read = staged(pair[0], json.loads(pair[1].read_bytes().decode())["sha256"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):  # there is none, or it is no manifest
        read = None
    for path in leftovers(pair):
        if path == read:
            _move(path, pair[0])
        else:
            with contextlib.suppress(OSError):  # Windows keeps it for a reader, until the next time
                os.unlink(path)


def _replace(path: Path, content: bytes) -> None:
    """Put a file in its place as a whole: it has another name until every byte is on the disk."""
    temporary = Path(f"{path}.{uuid.uuid4().hex[:8]}.part")
    with open(temporary, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _move(temporary, path)


def _move(source: Path, target: Path) -> None:
    until = time.monotonic() + WITH_READERS
    while True:
        try:
            os.replace(source, target)
            break
        except PermissionError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def _alone(archive_path: Path) -> Any:
    """Keep other writers of the pair out. The system takes the lock from a process that is killed."""
    lock, until = Path(f"{archive_path}.lock"), time.monotonic() + PATIENCE
    while True:
        file = open(lock, "ab")  # noqa: SIM115  # it stays open for as long as it is locked
        if _locked(file, lock):
            break
        file.close()
        if time.monotonic() > until:
            raise GoldenWriteError(
                f"another program has been writing {archive_path} for {PATIENCE:g} seconds; end it, or wait for it"
            )
        time.sleep(0.005)
    with file:
        try:
            yield
        finally:
            if sys.platform != "win32":
                os.unlink(lock)
    if sys.platform == "win32":
        with contextlib.suppress(OSError):  # not while anybody has it open
            os.unlink(lock)


def _locked(file: Any, lock: Path) -> bool:
    """Whether the lock is ours. A file system without locks gives it to everybody."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX + fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter on Windows
        return False
    except OSError:
        pass
    try:
        # Who has waited may hold a file that the one before has removed.
        return os.path.samestat(os.fstat(file.fileno()), os.stat(lock))
    except FileNotFoundError:
        return False
