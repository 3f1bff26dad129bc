"""What both losses were computed from, checked and reduced to the statistics that every convention needs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqloss.core.errors import ArgumentTypeError, DTypeError, OptionError, ShapeError
from seqloss.testing import oracle
from seqloss.testing.comparison import sides
from seqloss.testing.explain import layer
from seqloss.testing.explain.scaling import Scalings, scalings, statistics

Array = Any

BLOCK = 2**20
"""How many logits are widened at a time: the wide arrays of the oracle take sixteen bytes for each."""


Z_LOSS = 1e-4
"""The factor of PaLM and of T5X."""


class Grid(NamedTuple):
    """Tokens in rows: what is scored against what, and how much it counts."""

    logits: Array
    lse: Array
    """The logarithm of the sum of the exponentials."""
    total: Array
    """The sum of the losses of all classes."""
    twice: Array
    """What ``lse`` is where softmax of the logits is taken for logits."""
    mass: Array
    """The sum of the logits, if none is negative; else NaN."""
    scaled: Array
    """What ``lse`` and ``total`` are for other logits, [batch, time, scalings, 2]: see ``scaling``."""
    targets: Array
    weights: Array


class Scored(NamedTuple):
    """A loss and a weight for each token, [batch, time], and its label."""

    nll: Array
    weights: Array
    targets: Array
    total: Array
    """The sum of the losses of all classes."""
    lse: Array
    """The logarithm of the sum of the exponentials of what was scored."""
    classes: int


class Fraction(NamedTuple):
    """Rows of summands above and below the line; the loss is the mean of the quotients of the rows."""

    above: Array
    below: Array
    skip_empty: bool = False


class Situation(NamedTuple):
    """How the loss was computed, as far as the caller knows."""

    pad_id: int | None = None
    world_size: int | None = None
    accumulation_steps: int | None = None
    micro_batches: tuple[int, ...] | None = None
    """Rows in each micro-batch."""
    chunks: tuple[int, ...] | None = None
    """The same where only their number is known, and all have as many rows but the last one."""
    label_smoothing: float | None = None
    softcap: float | None = None
    temperature: float | None = None
    z_loss: float | None = None
    positions: int = 0
    """Batch * time of the inputs, before a shift."""

    @property
    def names_numbers(self) -> bool:
        """Whether the caller has a number in mind that changes the loss of a token."""
        return any(x is not None for x in (self.label_smoothing, self.softcap, self.temperature, self.z_loss))

    @property
    def scalings(self) -> Scalings:
        """What logits may be replaced by."""
        return scalings(self.softcap, self.temperature)

    @property
    def z_factor(self) -> float:
        """Of the square of the logarithm of the sum of the exponentials."""
        return Z_LOSS if self.z_loss is None else self.z_loss

    @property
    def facts(self) -> dict[str, Any]:
        """What the texts of causes are filled in with."""
        return {**self._asdict(), "scalings": self.scalings, "z_factor": self.z_factor}


def read(
    inputs: Mapping[str, Any] | Sequence[Any], softcap: float | None = None, temperature: float | None = None
) -> tuple[Grid, str]:
    """The tokens, and the dtype of the logits."""
    named = _named(inputs)
    scores = sides.read("logits", named["logits"]) if "logits" in named else None
    logits, dtype = layer.logits(named) if scores is None else (scores.values, scores.dtype)
    targets = sides.read("targets", named["targets"]).values
    if logits.ndim != 3 or not logits.shape[-1]:
        raise ShapeError(f"logits have the shape {list(logits.shape)}; expected [batch, time, classes]")
    if logits.dtype.kind != "f":
        raise DTypeError(f"logits are of dtype {logits.dtype}; expected floats")
    if targets.dtype.kind not in "iu":
        raise DTypeError(f"targets are of dtype {targets.dtype}; expected integers")
    given = named.get("weights")
    weights = np.ones(logits.shape[:2]) if given is None else sides.read("weights", given).values
    for name, array in (("targets", targets), ("weights", weights)):
        if array.shape != logits.shape[:2]:
            raise ShapeError(
                f"{name} have the shape {list(array.shape)}; expected {list(logits.shape[:2])}, that of the logits "
                "without the classes"
            )
    return Grid(
        logits,
        *_statistics(logits, scalings(softcap, temperature)),
        targets.astype(np.int64),
        weights.astype(oracle.WIDE),
    ), dtype


def situation(
    batch: int,
    pad_id: int | None,
    world_size: int | None,
    accumulation_steps: int | None,
    micro_batches: int | Sequence[int] | None,
    label_smoothing: float | None,
    softcap: float | None = None,
    temperature: float | None = None,
    z_loss: float | None = None,
) -> Situation:
    """The options, checked; accumulation steps cut the batch evenly unless micro-batches say otherwise."""
    for name, value in (("world_size", world_size), ("accumulation_steps", accumulation_steps)):
        if value is not None and not (_whole(value) and value >= 1):
            raise OptionError(f"{name} is {value!r}; expected a whole number, at least 1")
    if pad_id is not None and not _whole(pad_id):
        raise OptionError(f"pad_id is {pad_id!r}; expected the label of padding, a whole number")
    if label_smoothing is not None and not 0 <= label_smoothing < 1:
        raise OptionError(f"label_smoothing is {label_smoothing!r}; expected a number in [0, 1)")
    for name, number in (("softcap", softcap), ("temperature", temperature), ("z_loss", z_loss)):
        if number is not None and not 0 < number < np.inf:
            raise OptionError(f"{name} is {number!r}; expected a number above 0")
    pieces = accumulation_steps if micro_batches is None else micro_batches
    sizes = chunks = None
    if isinstance(pieces, Sequence):
        sizes = tuple(pieces)
        if not all(_whole(size) and size >= 0 for size in sizes) or sum(sizes) != batch:
            raise OptionError(f"micro_batches is {list(sizes)}; expected row counts that add up to the batch, {batch}")
    elif pieces is not None:
        if not (_whole(pieces) and pieces >= 1):
            raise OptionError(f"micro_batches is {pieces!r}; expected a number of micro-batches, or their row counts")
        sizes, chunks = even(batch, pieces), full(batch, pieces)
    given = (label_smoothing or None, softcap, temperature, z_loss)
    return Situation(pad_id, world_size, accumulation_steps, sizes, chunks, *given)


def even(rows: int, pieces: int) -> tuple[int, ...]:
    """Row counts that differ by at most 1, the larger ones first; pieces without a row are left out."""
    return tuple(rows // pieces + (i < rows % pieces) for i in range(min(pieces, rows)))


def full(rows: int, pieces: int) -> tuple[int, ...]:
    """Row counts that are all the same but for the last one, which is smaller: pieces may be left out at the end."""
    size = max(-(-rows // pieces), 1)
    return tuple(min(size, rows - start) for start in range(0, rows, size))


def _named(inputs: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    names: tuple[str, ...] = ("logits", "targets", "weights")
    if isinstance(inputs, Mapping) and "logits" not in inputs and "hidden" in inputs:
        names = ("hidden", "targets", "weights", "kernel", "bias")
    if isinstance(inputs, Mapping):
        unknown = sorted(set(inputs) - set(names))
        if unknown:
            raise ArgumentTypeError(
                f"inputs hold {unknown}; expected logits, targets and, if there are any, weights; or in the place of "
                "logits hidden, kernel and, if there is one, bias"
            )
        found = dict(inputs)
    elif isinstance(inputs, Sequence) and len(inputs) in (2, 3):
        found = dict(zip(names, inputs, strict=False))
    else:
        raise ArgumentTypeError("inputs are neither a mapping nor (logits, targets) or (logits, targets, weights)")
    if any(found.get(name) is None for name in names[:2]):
        raise ArgumentTypeError(f"inputs lack {names[0]} or targets")
    if names[0] == "hidden" and found.get("kernel") is None:
        raise ArgumentTypeError("inputs lack the kernel [features, classes] beside hidden")
    return found


def _statistics(logits: Array, tried: Scalings) -> tuple[Array, Array, Array, Array, Array]:
    classes = logits.shape[-1]
    rows = logits.reshape(-1, classes)
    lse, total, twice, mass = (np.empty(len(rows), oracle.WIDE) for _ in range(4))
    scaled = np.empty((len(rows), len(tried), 2), oracle.WIDE)
    step = max(1, BLOCK // classes)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        place = slice(start, start + len(block))
        with np.errstate(all="ignore"):
            lse[place] = oracle.tokens(block, block.argmax(-1)).nll + block.max(-1).astype(oracle.WIDE)
            added = block.astype(oracle.WIDE).sum(-1)
            total[place] = classes * lse[place] - added
            # The probabilities add up to 1, so that float64 loses nothing here.
            softmax = np.exp(block - lse[place, None].astype(np.float64))
            twice[place] = np.log(np.exp(softmax).sum(-1))
            mass[place] = np.where(block.min(-1) < 0, np.nan, added)
            scaled[place] = statistics(block, tried)
    shape = logits.shape[:2]
    lse, total, twice, mass = (x.reshape(shape) for x in (lse, total, twice, mass))
    return lse, total, twice, mass, scaled.reshape(*shape, *scaled.shape[1:])


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
