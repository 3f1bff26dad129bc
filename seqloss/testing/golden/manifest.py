"""The manifest of a golden file: JSON that is believed only after every part of it was looked at."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from seqloss.testing.golden.errors import GoldenError
from seqloss.testing.golden.seqloss_golden_writer import (
    DTYPES,
    FORMAT,
    INPUT,
    NAME,
    RESULT,
    VERSION,
    seal,
)

RANK, SIZE = 64, 2**62
"""What a shape may have: more than that is no array."""

_HASH = re.compile(r"[0-9a-f]{64}\Z")
AGAIN = "take both files from where they were recorded, or record them again"
"""The mend of all damage."""


class Entry(NamedTuple):
    """An array as it is declared."""

    role: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def stored(self) -> str:
        """The dtype in the file, as NumPy spells it."""
        return DTYPES[self.dtype]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * int(self.stored[2:])


class Manifest(NamedTuple):
    """What stands in a manifest, all of the right types."""

    sha256: str
    bytes: int
    function: str
    flags: dict[str, Any]
    note: str | None
    versions: dict[str, str]
    device: str | None
    arrays: dict[str, Entry]


def parse(path: Path, text: bytes) -> Manifest:
    """The manifest that these bytes are."""
    facts = _loaded(path, text)
    # A later version may have other fields, so the version is checked first.
    if facts.get("format") != FORMAT:
        raise GoldenError(f"{path} is not a manifest of a golden file: its format is {facts.get('format')!r:.80}")
    version = facts.get("version")
    if type(version) is not int or version != VERSION:
        raise GoldenError(
            f"{path} has version {version!r:.80} of the format, and this seqloss reads version {VERSION}; update "
            "seqloss, or record the file again"
        )
    wrong = _wrong(facts)
    if wrong is not None:
        raise GoldenError(f"{path} is damaged: {wrong}; {AGAIN}")
    if facts["manifest_sha256"] != seal(facts):
        raise GoldenError(f"{path} is not what was recorded: it was edited, or is damaged; {AGAIN}")
    arrays = {
        name: Entry(array["role"], array["dtype"], tuple(array["shape"])) for name, array in facts["arrays"].items()
    }
    return Manifest(arrays=arrays, **{name: facts[name] for name in Manifest._fields if name != "arrays"})


def _loaded(path: Path, text: bytes) -> dict[str, Any]:
    """Strict JSON: no name twice, no NaN, an object outside."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name occurs twice in one object")
        return found

    def refused(constant: str) -> None:
        raise ValueError(f"{constant} is not a number in JSON")

    try:
        facts = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=refused)
    except (ValueError, RecursionError) as error:
        raise GoldenError(f"{path} is not JSON ({error!s:.200}); {AGAIN}") from None
    if not isinstance(facts, dict):
        raise GoldenError(
            f"{path} is not a manifest of a golden file: it holds a {type(facts).__name__}, not an object"
        )
    return facts


def _wrong(facts: dict[str, Any]) -> str | None:
    """The first field that is not what it must be."""
    legal: dict[str, Callable[[Any], bool]] = {
        "format": lambda x: True,
        "version": lambda x: True,
        "sha256": _is_hash,
        "manifest_sha256": _is_hash,
        "bytes": lambda x: type(x) is int and x >= 0,
        "function": lambda x: isinstance(x, str),
        "flags": lambda x: isinstance(x, dict) and all(map(_is_flag, x.values())),
        "note": lambda x: x is None or isinstance(x, str),
        "versions": lambda x: isinstance(x, dict) and all(isinstance(version, str) for version in x.values()),
        "device": lambda x: x is None or isinstance(x, str),
        "arrays": lambda x: isinstance(x, dict),
    }
    for names, what in ((legal.keys() - facts.keys(), "is missing"), (facts.keys() - legal.keys(), "is unknown")):
        if names:
            return f"the field {min(names)!r:.80} {what}"
    for name, is_legal in legal.items():
        if not is_legal(facts[name]):
            return f"the field {name!r} is {facts[name]!r:.80}"
    for name, array in facts["arrays"].items():
        if not NAME.match(name) or not _is_array(array):
            return f"the array {name!r:.80} is declared as {array!r:.200}"
    roles = {array["role"] for array in facts["arrays"].values()}
    return None if roles == {INPUT, RESULT} else "it does not declare inputs and results"


def _is_hash(x: Any) -> bool:
    return isinstance(x, str) and _HASH.match(x) is not None


def _is_flag(x: Any) -> bool:
    # 1e999 is legal JSON, and an infinity.
    return x is None or isinstance(x, (bool, int, str)) or (isinstance(x, float) and math.isfinite(x))


def _is_array(x: Any) -> bool:
    if not isinstance(x, dict) or x.keys() != {"role", "dtype", "shape"}:
        return False
    role, dtype, shape = x["role"], x["dtype"], x["shape"]
    return (
        role in (INPUT, RESULT)
        and isinstance(dtype, str)
        and dtype in DTYPES
        and isinstance(shape, list)
        and len(shape) <= RANK
        and all(type(size) is int and 0 <= size < SIZE for size in shape)
    )
