"""The other arguments of the loss: which tokens are ignored, class weights, a prior, a normalizer.

Each is checked on facts, then on values where reading them needs no waiting, and then placed. An argument without
values yet cannot raise an error, so it makes NaN if it is wrong: a negative class weight or prior in each token that it
reaches, a negative normalizer in the loss, an impossible length in the tokens of its sequence.
"""

from typing import Any, NamedTuple

from seqloss.core import dtypes, labels, objectives, open_sizes, options, shapes
from seqloss.core.argument import Argument
from seqloss.core.call import Call
from seqloss.core.errors import OptionError
from seqloss.core.protocol import Array, Backend


class Beside(NamedTuple):
    """The arguments of a caller, and the static options that say how to read them."""

    class_weights: Any = None
    prior: Any = None
    exclude: tuple[int, ...] = ()
    ignore_index: tuple[int, ...] = ()
    lengths: Any = None
    normalizer: Any = None

    def counting(self, ignore_index: tuple[int, ...], lengths: Any, normalizer: Any) -> "Beside":
        """The same, with the arguments that say which tokens count, and how much."""
        if not ignore_index and lengths is None and normalizer is None:
            return self
        return Beside(self.class_weights, self.prior, self.exclude, ignore_index, lengths, normalizer)

    @property
    def is_empty(self) -> bool:
        class_weights, prior, exclude, ignore_index, lengths, normalizer = self
        is_empty = class_weights is None and prior is None and lengths is None and normalizer is None
        # Not the truth value of a tuple, which torch.compile (torch 2.13) cannot trace if its numbers are symbolic.
        return is_empty and len(exclude) == 0 and len(ignore_index) == 0


NOTHING_BESIDE = Beside()


class Checked(NamedTuple):
    """Arguments whose facts are right, and whose values are right where they can be read."""

    class_weights: Argument | None = None
    prior: Argument | None = None
    out: labels.Out = labels.NONE_OUT
    normalizer: Argument | float | None = None


NOTHING_CHECKED = Checked()


class Placed(NamedTuple):
    """Arrays of the call's framework."""

    class_weights: Array | None = None
    prior: Array | None = None
    kept: Array | None = None
    """[batch, time]: False where a token is out."""
    in_time: Array | None = None
    """[batch, 1]: whether a sequence can have its length; None if all are known to."""
    normalizer: Array | None = None


NOTHING_PLACED = Placed()


def check(call: Call, beside: Beside) -> Checked:
    """All checks, in the order of the options."""
    if beside.is_empty:
        return NOTHING_CHECKED
    shape = call.main.shape
    lengths = None if beside.lengths is None else lengths_of(call, beside.lengths)
    class_weights = _of_classes(call, "class_weights", beside.class_weights)
    prior = _of_classes(call, "Smoothing.prior", beside.prior)
    if prior is not None and labels.is_readable(prior):
        values = prior.facts.to_numpy(prior.value)
        if not values.any():
            raise OptionError("Smoothing.prior is 0 for every class; give at least one class a positive number")
    objectives.excluded(beside.exclude, None if shape is None else shape[-1])
    normalizer = None if beside.normalizer is None else _normalizer(call, beside.normalizer)
    return Checked(class_weights, prior, labels.Out(beside.ignore_index, lengths), normalizer)


def _of_classes(call: Call, name: str, value: Any) -> Argument | None:
    if value is None:
        return None
    argument, shape = call.beside(name, value), call.main.shape
    shapes.of_classes(name, argument.shape, None if shape is None else shape[-1])
    dtypes.weights_dtype(argument.dtype, name)
    if labels.is_readable(argument):
        labels.not_negative(name, argument.facts.to_numpy(argument.value))
    return argument


def lengths_of(call: Call, value: Any) -> Argument:
    """Lengths of sequences beside a main argument [batch, time, ...]."""
    argument, shape = call.beside("lengths", value), call.main.shape
    shapes.lengths(argument.shape, None if shape is None else shape[0], call.main.name)
    dtypes.lengths_dtype(argument.dtype)
    time = None if shape is None else shape[1]
    if time is not None and labels.is_readable(argument):
        labels.lengths_in_time(argument.facts.to_numpy(argument.value), time)
    return argument


def _normalizer(call: Call, value: Any) -> Argument | float:
    if isinstance(value, bool):
        dtypes.normalizer_dtype("bool")
    if isinstance(value, (int, float)):
        objectives.is_count(options.finite_float("normalizer", value))
        return value
    argument = call.beside("normalizer", value)
    shapes.scalar("normalizer", argument.shape)
    dtypes.normalizer_dtype(argument.dtype)
    if labels.is_readable(argument):
        objectives.is_count(float(argument.facts.to_numpy(argument.value)))
    if argument.is_host:  # as a number, because not every framework has its dtype
        number: float = argument.value.item()
        return number
    return argument


def place(
    call: Call,
    checked: Checked,
    logits: Array,
    targets: Argument,
    rank: int = 2,
    classes_of: Array | None = None,
) -> Placed:
    """The arrays; ``targets`` are those of the caller. The last axis of ``classes_of``, or of logits, has classes."""
    if checked is NOTHING_CHECKED:
        return NOTHING_PLACED
    backend, (ignored, lengths) = call.backend, checked.out
    class_weights, prior = of_classes(call, checked, logits if classes_of is None else classes_of)
    normalizer = checked.normalizer
    if isinstance(normalizer, Argument):
        normalizer = call.place(normalizer, rank=0)
    elif normalizer is not None:
        normalizer = _number(backend, normalizer, logits)
    kept = _not_ignored(call, targets, ignored, rank)
    if lengths is None:
        return Placed(class_weights, prior, kept, None, normalizer)
    counts = call.place(lengths, rank=1)
    if shapes.is_open(call.main.shape, lengths.shape):
        logits, counts = call.compare([logits, counts], open_sizes.LENGTHS_DIFFER)
    within = below(backend, counts, backend.sizes(logits)[1], logits)
    in_time = None
    if call.main.shape is None or call.main.shape[1] is None or not labels.is_readable(lengths):
        # The number of positions below a length is the length itself, unless it is negative or too large.
        found = backend.astype(backend.count_nonzero(within, axis=(1,)), backend.dtype(counts))
        in_time = backend.expand_dims(backend.equal(found, counts), axis=-1)
    kept = within if kept is None else within & kept
    return Placed(class_weights, prior, kept, in_time, normalizer)


def of_classes(call: Call, checked: Checked, logits: Array) -> tuple[Array | None, Array | None]:
    """Class weights and prior; unknown sizes are compared with the logits at run time."""
    backend, placed = call.backend, []
    for argument in (checked.class_weights, checked.prior):
        x = None if argument is None else call.place(argument, rank=1)
        if argument is not None and shapes.is_open(call.main.shape and call.main.shape[-1:], argument.shape):
            classes = backend.arange(backend.sizes(logits)[-1], like=logits)
            _, x = call.compare([classes, x], open_sizes.CLASSES_DIFFER)
        placed.append(x)
    return placed[0], placed[1]


def _number(backend: Backend, value: float, like: Array) -> Array:
    """A number as an array, because a new number must not cause a new compilation.

    A small whole number is taken as it is, another one beside float32 as three of these, which add up to it: not every
    framework has float64, and in exact mode no digit may be lost. Made of an array of the framework: torch.compile
    (torch 2.13) cannot trace how NumPy makes one.
    """
    zeros = backend.arange(1, like=like)
    if float(value).is_integer() and value < 2**31:
        return backend.reshape(zeros + int(value), ())
    dtype, rest = dtypes.compute_dtype(backend.dtype(like)), float(value)
    zeros = backend.astype(zeros, dtype)
    if dtype == "float64" or not rest < 1e38:  # what follows would overflow
        return backend.reshape(zeros + rest, ())
    parts = []
    for _ in range(3):
        # Rounded to the digits of float32 by Veltkamp's method.
        large = rest * (2**29 + 1)
        part = large - (large - rest)
        parts.append(zeros + part)
        rest -= part
    return backend.concat(parts, axis=0)


def _not_ignored(call: Call, targets: Argument, ignored: tuple[int, ...], rank: int) -> Array | None:
    """Where labels are none of these values. Some of the values may not fit into the dtype of the labels."""
    facts, kept = targets.facts, None
    with facts.scope(None):
        for label in ignored:
            if labels.can_hold(targets.dtype, label):
                differs = ~facts.equal(targets.value, label)
                kept = differs if kept is None else kept & differs
    if kept is None:
        return None
    return call.place(Argument("targets", kept, facts, targets.shape, "bool", targets.is_host), rank=rank)


def below(backend: Backend, counts: Array, stop: Any, like: Array) -> Array:
    """[..., stop]: which of the positions 0, 1, … are below each count."""
    positions, counts = in_one_dtype(backend, backend.arange(stop, like=like), counts)
    for _ in backend.shape(counts) or ():
        positions = backend.expand_dims(positions, axis=0)
    return positions < backend.expand_dims(counts, axis=-1)


def in_one_dtype(backend: Backend, positions: Array, counts: Array) -> tuple[Array, Array]:
    """Numbers of :meth:`Backend.arange` and integers of any dtype, in the wider dtype, so that none wraps around."""
    dtype = backend.dtype(counts)
    if backend.dtype(positions) == "int32" and dtype in ("uint32", "int64", "uint64"):
        return backend.astype(positions, dtype), counts
    return positions, backend.astype(counts, backend.dtype(positions))
