"""Writes golden files: the arrays that a function was given and what it returned, for another program to check.

This file works by itself: copy it beside a training script. It needs NumPy 1.16 or later and runs on Python 3.7 and
later, so that a program on TensorFlow 1.15 can record what a newer program is to be checked against::

    import seqloss_golden_writer
    loss, dlogits = session.run([loss, dlogits], feed)
    seqloss_golden_writer.write(
        "model", {"logits": ..., "targets": ..., "weights": ...}, {"loss": loss, "dlogits": dlogits}, device="cpu"
    )

``seqloss.testing.golden`` reads and checks the pair ``model.npz`` and ``model.json``.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import platform
import re
import sys
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

FORMAT, VERSION = "seqloss-golden", 1
INPUT, RESULT = "input", "result"
BFLOAT16 = "bfloat16"
"""NumPy has no such dtype: the file holds the bits as uint16."""
DTYPES = {"bool": "|b1", "int8": "|i1", "uint8": "|u1", BFLOAT16: "<u2"}
DTYPES.update({f"{kind}{8 * n}": f"<{kind[0]}{n}" for kind in ("int", "uint", "float") for n in (2, 4, 8)})
"""What can be recorded, with the form in which it is stored."""
LARGEST = 2**31 - 2**20
"""A larger archive would need another form of directory, and is no golden file to keep in a repository."""
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
    as they are unless ``overwrite`` is true. Each of the two is replaced as a whole or not at all.
    """
    archive_path, manifest_path = paths(path)
    arrays = _arrays(inputs, results)
    archive = archived({name: array for name, (_, _, array) in arrays.items()})
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "sha256": hashlib.sha256(archive).hexdigest(),
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
    if not overwrite:
        for existing in (archive_path, manifest_path):
            if existing.exists():
                raise GoldenWriteError(f"{existing} exists; pass overwrite=True to record anew")
    # The manifest last: until it is there, or beside one of another recording, the archive is refused.
    _replace(archive_path, archive)
    _replace(manifest_path, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode("ascii"))
    return archive_path


def paths(path: Any) -> tuple[Path, Path]:
    """The archive and the manifest that a path stands for: the suffix may be that of either, or left out."""
    name = os.fspath(path)
    if not isinstance(name, str):
        raise GoldenWriteError(f"the path must be a string or a Path, got {path!r}")
    if name.endswith((".npz", ".json")):
        name = name[: name.rindex(".")]
    if not os.path.basename(name):
        raise GoldenWriteError(f"the path {path!r} names no file")
    return Path(name + ".npz"), Path(name + ".json")


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
    size = sum(array.nbytes + 2048 for array in arrays.values())
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
                raise GoldenWriteError(f"{name!r} is no name for an array: take a letter, then letters, digits and _")
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
    try:
        if hasattr(value, "detach"):  # PyTorch refuses NumPy's conversion where gradients are required
            value = value.detach().cpu()
            if str(value.dtype) == "torch.bfloat16":
                # float32 has the same bits and 16 more, all of them 0.
                bits = np.asarray(value.float().numpy()).view(np.uint32) >> 16
                return BFLOAT16, bits.astype(DTYPES[BFLOAT16])
        array = np.asarray(value)
    except Exception as error:
        raise GoldenWriteError(
            f"{name} is a {type(value).__name__} that has no values for NumPy to take; in a graph of TensorFlow 1 "
            "record what Session.run returned"
        ) from error
    kind = array.dtype.name
    if kind not in DTYPES:
        raise GoldenWriteError(
            f"{name} is an array of {kind}, which other programs could not read; cast it to one of {', '.join(DTYPES)}"
        )
    return kind, (array.view(np.uint16) if kind == BFLOAT16 else array).astype(DTYPES[kind], copy=False)


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
        plain[name] = value
    return plain


def _replace(path: Path, content: bytes) -> None:
    """Put a file in its place as a whole: it has another name until every byte is on the disk."""
    temporary = Path(f"{path}.{uuid.uuid4().hex}.part")
    file = open(temporary, "xb")  # noqa: SIM115  # what it did not make it must not remove
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
