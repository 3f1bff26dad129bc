"""From a file to the sentences that make a batch."""

import codecs
import re
from pathlib import Path
from typing import NamedTuple

from seqloss.core.errors import OptionError

READ_LIMIT = 64 * 1024
"""Bytes read at most: no batch holds more, and the file may be of any size, or endless."""

LONGEST_SENTENCE = 256
"""Bytes; a longer sentence continues in another row, because every row is padded to the longest."""

SHIPPED = Path(__file__).with_name("alice.txt")
"""Lewis Carroll, Alice's Adventures in Wonderland (1865), from chapter I. In the public domain."""

# After the end of a sentence and the quotes that close it, or at an empty line.
_BOUNDARY = re.compile(r"(?<=[.!?\u2026])[\"')\]\u201d\u2019\u00bb]*\s+|\n\s*\n")


class Text(NamedTuple):
    """Sentences as UTF-8 bytes, none empty, and whether the file went on."""

    source: str
    sentences: list[bytes]
    truncated: bool


def read(path: Path | None) -> Text:
    """The sentences of a UTF-8 file, or of the text that is shipped with the package."""
    source = "Alice's Adventures in Wonderland, from chapter I (shipped)" if path is None else str(path)
    try:
        with open(path or SHIPPED, "rb") as file:
            data = file.read(READ_LIMIT + 1)
    except OSError as error:
        raise OptionError(f"cannot read the text {source!r}: {error.strerror or error}") from None
    truncated = len(data) > READ_LIMIT
    # Incremental, because the limit may cut a character in two; utf-8-sig, because a byte order mark is no text.
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        text = decoder.decode(data[:READ_LIMIT], final=not truncated)
    except UnicodeDecodeError as error:
        raise OptionError(
            f"the text {source!r} is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start}; "
            "convert it to UTF-8 first"
        ) from None
    found = sentences(text)
    if not found:
        what = "holds only white space" if data else "is empty"
        raise OptionError(f"the text {source!r} {what}; it needs at least one sentence")
    return Text(source, found, truncated)


def sentences(text: str) -> list[bytes]:
    """The sentences with every run of white space as one space, in pieces of at most LONGEST_SENTENCE bytes."""
    ends = [boundary.end() for boundary in _BOUNDARY.finditer(text)]
    found = []
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        sentence = " ".join(text[start:end].split()).encode()
        found += [sentence[at : at + LONGEST_SENTENCE] for at in range(0, len(sentence), LONGEST_SENTENCE)]
    return found
