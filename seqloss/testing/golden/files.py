"""Writing and reading golden files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqloss.testing.golden import archive, pair, seqloss_golden_writer
from seqloss.testing.golden.errors import GoldenError
from seqloss.testing.golden.seqloss_golden_writer import LARGEST

Array = Any

WRITER = Path(seqloss_golden_writer.__file__)
"""The writer that works by itself, to be copied beside a program that cannot install seqloss."""


@dataclass(frozen=True)
class Golden:
    """What a golden file holds.

    Parameters
    ----------
    inputs, results : dict of str to numpy.ndarray
        The arrays that the function was given, and what it returned. bfloat16 is float32 here, which holds the same
        numbers.
    function : str
        What was computed.
    flags : dict
        Its options: booleans, numbers, strings and None.
    note : str or None
        What the writer had to say about it.
    versions : dict of str to str
        The versions of Python, NumPy and the frameworks that were imported where it was recorded.
    device : str or None
        Where it was computed.
    dtypes : dict of str to str
        The dtype of each array as it was recorded, as in "bfloat16".
    sha256 : str
        The hash of the archive.

    See Also
    --------
    read : Makes it.
    """

    inputs: dict[str, Array]
    results: dict[str, Array]
    function: str
    flags: dict[str, Any]
    note: str | None
    versions: dict[str, str]
    device: str | None
    dtypes: dict[str, str]
    sha256: str


def write(
    path: Any,
    inputs: Mapping[str, Any],
    results: Mapping[str, Any],
    *,
    function: str = "sequence_loss",
    flags: Mapping[str, Any] | None = None,
    note: str | None = None,
    device: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Record what a function was given and what it returned.

    Parameters
    ----------
    path : str or path-like
        Where to: NAME, NAME.npz or NAME.json. Two files are written, NAME.npz with the arrays and NAME.json with the
        manifest.
    inputs, results : mapping of str to array or number
        The arrays by name: a letter, then letters, digits and "_". Of any framework, of any float (bfloat16 included),
        integer or bool dtype. No name may be in both.
    function : str, default "sequence_loss"
        What was computed. :func:`check` knows how to compute "sequence_loss" again.
    flags : mapping, optional
        Its options: booleans, finite numbers, strings and None by name.
    note : str, optional
        Anything worth knowing.
    device : str, optional
        Where it was computed.
    overwrite : bool, default False
        Whether files of that name may be replaced.

    Returns
    -------
    pathlib.Path
        The path of NAME.npz.

    Raises
    ------
    GoldenError
        If an array has no values or a dtype that is not for everybody, as objects, strings and complex numbers; if a
        name, a flag, a shape or a text is not what it must be; if arrays or texts are too large or too many to be
        read; if one of the files exists; or if another program has been writing them for a minute.
    OSError
        If the files cannot be written.

    See Also
    --------
    read : Reads them.
    check : Computes the results again and compares.

    Notes
    -----
    The same content gives the same bytes, so that recording again changes nothing under version control. Both files
    are replaced at once: whenever the program is ended, :func:`read` gets the old recording or the new one, and the
    next writer removes what was left behind. Several programs may write the same recording; the last one counts.

    ``seqloss_golden_writer.py`` beside this module is the same function by itself, for programs that run on Python 3.7
    or cannot install seqloss; its path is ``golden.WRITER``.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import seqloss
    >>> from seqloss.testing import golden
    >>> inputs = {"logits": np.zeros((1, 2, 4), "float32"), "targets": np.array([[3, 1]])}
    >>> results = {"loss": seqloss.sequence_loss(**inputs)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(golden.write(f"{folder}/uniform", inputs, results).name)
    ...     print(golden.read(f"{folder}/uniform").results)
    uniform.npz
    {'loss': array(1.3862944, dtype=float32)}
    """
    try:
        return seqloss_golden_writer.write(
            path,
            inputs,
            results,
            function=function,
            flags=flags,
            note=note,
            device=device,
            overwrite=overwrite,
        )
    except seqloss_golden_writer.GoldenWriteError as error:
        raise GoldenError(str(error)) from error.__cause__


def read(path: Any, *, largest: int = LARGEST) -> Golden:
    """Read a golden file, after everything in it was checked.

    Parameters
    ----------
    path : str or path-like
        NAME, NAME.npz or NAME.json; both files must be there.
    largest : int, default 2**31 - 2**20
        How many bytes the archive, and its arrays together, may take. Nothing larger is read. The default is what
        :func:`write` writes at most.

    Returns
    -------
    Golden
        The arrays, which are NumPy's, and the facts about them.

    Raises
    ------
    GoldenError
        If a file is damaged, was edited, is too large, belongs to another recording, or is no golden file.
    OSError
        If there are no files of that name, or they cannot be read.

    See Also
    --------
    write : Writes one.
    check : Computes the results again and compares.

    Notes
    -----
    Nothing in a file is executed: no pickles are read and no header is evaluated. Sizes are compared with ``largest``
    and with each other before any memory is taken for them. Everything that :func:`write` writes is read.

    The hashes tell accidents from recordings. They are no signature: who can write both files can forge both.

    Examples
    --------
    >>> from seqloss.testing import golden
    >>> golden.read("no/such/file")
    Traceback (most recent call last):
        ...
    FileNotFoundError: there is no no/such/file.npz; a recording is file.npz and file.json
    """
    names = pair.named(path)
    about, content = pair.read(names, largest)
    arrays = archive.arrays_of(names[0], content, about.arrays)
    inputs, results = (
        {name: arrays[name] for name, entry in about.arrays.items() if entry.role == role}
        for role in (seqloss_golden_writer.INPUT, seqloss_golden_writer.RESULT)
    )
    dtypes = {name: entry.dtype for name, entry in about.arrays.items()}
    facts = about.function, about.flags, about.note, about.versions, about.device
    return Golden(inputs, results, *facts, dtypes, about.sha256)
