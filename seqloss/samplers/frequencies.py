"""Tables of frequencies: from a list, from a file, from counts."""

import math
import os
from numbers import Real
from typing import Any

from seqloss.core import dispatch, dtypes, options
from seqloss.core.errors import ArgumentTypeError, DTypeError, OptionError, ShapeError
from seqloss.core.protocol import Array
from seqloss.core.shapes import text


def table(range_max: int, vocab_file: Any, distortion: Any, num_reserved_ids: Any, unigrams: Any) -> Array:
    """The weight of each id as NumPy float64, 0 for reserved ones, from the arguments of the fixed sampler."""
    import numpy as np

    power = _power(distortion)
    reserved = options.integer("num_reserved_ids", num_reserved_ids, 0)
    source, given = _given(vocab_file, unigrams)
    if reserved + len(given) != range_max:
        raise ShapeError(
            f"{source} must hold range_max - num_reserved_ids = {range_max} - {reserved} = {range_max - reserved} "
            f"frequencies, got {len(given)}; reserved ids have no entry"
        )
    _legal(source, given, "must be finite and at least 0")
    with np.errstate(over="ignore", divide="ignore"):
        weights = given**power
    _legal(f"{source} to the power distortion = {power}", weights, "must be finite")
    if not weights.any():
        raise OptionError(f"{source} must hold a frequency above 0, but all are 0; nothing could be drawn")
    return np.concatenate([np.zeros(reserved), weights])


def learned(counts: Any, range_max: int) -> Array:
    """The counts of the learning sampler as weights, after a look at what may have been assigned to them."""
    import numpy as np

    if not isinstance(counts, np.ndarray) or counts.dtype.name not in dtypes.INTEGERS:
        what = f"{counts.dtype}" if isinstance(counts, np.ndarray) else f"a {type(counts).__qualname__}"
        raise DTypeError(f"counts must be a NumPy array of integers, got {what}; assign np.array(saved, 'int64')")
    if counts.shape != (range_max,):
        raise ShapeError(f"counts must have the shape [range_max] = [{range_max}], got {text(counts.shape)}")
    if counts.min() < 1:
        raise OptionError(f"counts must be at least 1, got {counts.min()}; a class that was never seen has the count 1")
    return counts.astype(np.float64)


def _power(distortion: Any) -> float:
    if isinstance(distortion, bool) or not isinstance(distortion, Real):
        raise ArgumentTypeError(f"distortion must be a number, got {distortion!r}; convert it with float(...)")
    power = options.finite_float("distortion", distortion)
    if not math.isfinite(power):
        raise OptionError(f"distortion must be finite, got {power}; 1.0 leaves the frequencies as they are")
    return power


def _given(vocab_file: Any, unigrams: Any) -> tuple[str, Array]:
    """The name and the values of the source of frequencies that was given."""
    if not isinstance(vocab_file, (str, os.PathLike)):
        raise ArgumentTypeError(f"vocab_file must be the path of a text file, got {vocab_file!r}; pass '' for none")
    path = os.fspath(vocab_file)
    array = _array(unigrams)
    if bool(path) == (len(array) > 0):
        got = "both" if path else "neither"
        raise OptionError(f"one of vocab_file and unigrams must be given, got {got}; pass the frequencies once")
    return ("vocab_file", _from_file(path)) if path else ("unigrams", array)


def _array(unigrams: Any) -> Array:
    if not dispatch.is_host(unigrams):
        raise ArgumentTypeError(
            f"unigrams must be a list of numbers or a NumPy array, got a {type(unigrams).__qualname__}; it is read on "
            "the host"
        )
    argument = dispatch.argument("unigrams", unigrams)
    if argument.shape is None or len(argument.shape) != 1:
        raise ShapeError(f"unigrams must be a vector with one frequency per id, got {text(argument.shape)}")
    if argument.dtype not in dtypes.FLOATS and argument.dtype not in dtypes.INTEGERS:
        raise DTypeError(f"unigrams must be numbers, got {argument.dtype}; cast them to float64")
    return argument.value.astype("float64")


def _from_file(path: Any) -> Array:
    import numpy as np

    frequencies = []
    try:
        # Some editors put a byte order mark before the first line.
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    frequencies.append(_field(path, number, line))
    except (OSError, UnicodeError) as error:
        raise OptionError(f"vocab_file {path!r} cannot be read as UTF-8 text: {error}") from error
    return np.array(frequencies, np.float64)


def _field(path: Any, number: int, line: str) -> float:
    """The frequency on a line: what stands behind its last comma."""
    field = line.rpartition(",")[2].strip()
    try:
        return float(field)
    except ValueError:
        raise OptionError(
            f"line {number} of vocab_file {path!r} must end in a number after its last comma, got {field!r}"
        ) from None


def _legal(source: str, values: Array, rule: str) -> None:
    import numpy as np

    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(bad):
        first = int(bad[0])
        raise OptionError(f"the frequencies of {source} {rule}, but entry {first} is {values[first]}; correct it")
