"""Where a recording may be written to, in the words of the command line."""

from pathlib import Path
from typing import Any

from seqloss.core.errors import OptionError


def check_free(path: Any, overwrite: bool) -> None:
    """Refuse to write over a recording."""
    from seqloss.testing.golden import pair, seqloss_golden_writer

    archive, manifest = pair.named(path)
    if not archive.parent.is_dir():
        raise OptionError(f"{Path(path)} cannot be written: there is no folder {str(archive.parent)!r}")
    try:
        seqloss_golden_writer.check_free((archive, manifest), overwrite, "--overwrite")
    except seqloss_golden_writer.GoldenWriteError as error:
        raise OptionError(str(error)) from None
