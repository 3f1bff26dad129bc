"""From the arguments of a sampled loss to arrays of one backend that have passed every check."""

from typing import Any, NamedTuple

from seqloss.core import dispatch, dtypes, options, shapes
from seqloss.core import labels as label_policy
from seqloss.core.argument import Argument
from seqloss.core.call import Call, see_order
from seqloss.core.errors import ArgumentTypeError, DTypeError, OptionError, ShapeError
from seqloss.core.protocol import Array
from seqloss.losses.sampled import shards

IS_CLASS = "each must be one of the num_classes classes"
SIZES_DIFFER = (
    "inputs, labels and true_expected must have one batch, labels and true_expected num_true columns, sampled and "
    "sampled_expected num_sampled entries, weights and biases num_classes rows, but sizes differ at run time"
)


class Options(NamedTuple):
    """What is no array."""

    num_sampled: int
    num_classes: int
    num_true: int
    removes_hits: bool
    strategy: str
    subtracts: bool


class Received(NamedTuple):
    """The arguments that do not depend on the candidates, checked and not yet placed."""

    call: Call
    weights: tuple[Argument, ...]
    """One, or the shards."""
    biases: tuple[Argument, ...]
    labels: Argument


class Problem(NamedTuple):
    """The arrays of a sampled loss, placed in one backend, which is that of the call."""

    call: Call
    options: Options
    dtype: str
    """The compute dtype, that of ``inputs`` and the expected counts."""
    inputs: Array
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    labels: Array
    """int32 (int64 where there are more classes), as are the candidates; all legal."""
    sampled: Array
    counts: tuple[Array, Array]
    good: Array | None
    """Whether the labels of an example and all candidates are classes; None where they were read and are."""
    known: tuple[Any, Any] | None
    """Labels and candidates as NumPy arrays, where they can be read without waiting."""


def check_options(of: Options) -> None:
    options.flag("remove_accidental_hits", of.removes_hits)
    options.flag("subtract_log_q", of.subtracts)
    if not isinstance(of.strategy, str) or of.strategy not in shards.STRATEGIES:
        raise OptionError(f"partition_strategy must be 'mod' or 'div', got {of.strategy!r}")


def receive(options: Options, weights: Any, biases: Any, labels: Any, inputs: Any) -> Received:
    """Find the backend of a call, which the inputs decide, and check what needs no values."""
    call = Call("inputs", inputs)
    of_weights, of_biases = _parts(call, "weights", weights), _parts(call, "biases", biases)
    received = Received(call, of_weights, of_biases, call.beside("labels", labels))
    see_order(call.main, received.labels, 0)
    shapes.rank("inputs", call.main.shape, 2, "[batch, dim]")
    dtypes.float_dtype("inputs", call.main.dtype)
    _check_weights(received, options.num_classes)
    _check_biases(received, options.num_classes)
    _check_labels(received.labels, call.main.shape, options.num_true)
    return received


def _parts(call: Call, name: str, value: Any) -> tuple[Argument, ...]:
    """An array, or a list of shards of it. A list of numbers, or of lists of them, is an array."""
    dispatch.refuse_packed(name, value)
    if isinstance(value, (list, tuple)) and any(not isinstance(x, (list, tuple, int, float)) for x in value):
        return tuple(call.beside(f"{name}[{i}]", x) for i, x in enumerate(value))
    return (call.beside(name, value),)


def _wanted(classes: int, parts: tuple[Argument, ...], unit: str) -> list[tuple[Argument, int, str]]:
    """Each shard with the number of its rows, and that in words."""
    several, whole = len(parts), f"num_classes = {classes}"
    if several == 1:
        return [(parts[0], classes, f"{whole} {unit}")]
    sizes = shards.rows(classes, several)
    wants = [f"{size} {unit}, its share of {whole} among {several} shards" for size in sizes]
    return list(zip(parts, sizes, wants, strict=True))


def _check_biases(received: Received, classes: int) -> None:
    for part, rows, wants in _wanted(classes, received.biases, "entries"):
        shapes.rank(part.name, part.shape, 1, "[num_classes]")
        _rows(part, rows, wants)
        dtypes.float_dtype(part.name, part.dtype)


def _check_weights(received: Received, classes: int) -> None:
    inputs = received.call.main.shape
    dim = None if inputs is None else inputs[1]
    for part, rows, wants in _wanted(classes, received.weights, "rows"):
        if part.shape is not None and part.shape == (dim, rows) != (rows, dim):
            raise ShapeError(
                f"{part.name} must have the shape [num_classes, dim] = {shapes.text((rows, dim))}, "
                f"got {shapes.text(part.shape)}; it is transposed: swap its two axes"
            )
        shapes.rank(part.name, part.shape, 2, "[num_classes, dim]")
        _rows(part, rows, wants)
        if part.shape is not None and _differ(part.shape[1], dim):
            raise ShapeError(
                f"{part.name} must have dim = {dim} columns, as inputs have, got {shapes.text(part.shape)}; "
                "each class needs one weight for each input"
            )
        dtypes.float_dtype(part.name, part.dtype)


def _differ(one: int | None, other: int | None) -> bool:
    # Not with "in": torch.compile (torch 2.13) finds no symbolic size in a tuple.
    return one is not None and other is not None and one != other


def _rows(argument: Argument, rows: int, wants: str) -> None:
    if argument.shape is not None and _differ(argument.shape[0], rows):
        raise ShapeError(
            f"{argument.name} must have {wants}, got {shapes.text(argument.shape)}; check that num_classes is the size "
            "of the vocabulary that they were made for"
        )


def _check_labels(y: Argument, inputs: shapes.Shape, columns: int) -> None:
    shapes.true_classes(y.name, y.shape, columns)
    batch = None if inputs is None else inputs[0]
    if y.shape is not None and _differ(y.shape[0], batch):
        raise ShapeError(
            f"labels must have one row for each of the {batch} rows of inputs, got {shapes.text(y.shape)}; check that "
            "both come from the same batch"
        )
    label_policy.are_ids(y)


def to_draw(received: Received, options: Options) -> Argument:
    """The labels, for which candidates are drawn: on the host, so they must be read."""
    y = received.labels
    # Check the others too: if they are traced, candidates would be drawn once and used in every run of the program.
    for each in (y, received.call.main, *received.weights, *received.biases):
        label_policy.readable_to_draw(each)
    label_policy.check(y, options.num_classes, None, True, mend=IS_CLASS, too_large=IS_CLASS)
    if options.num_sampled > options.num_classes:
        raise OptionError(
            f"num_sampled is {options.num_sampled}, but candidates that are drawn here are all different, and there "
            f"are only {options.num_classes} classes; lower num_sampled, or pass sampled_values"
        )
    return y


def place(received: Received, options: Options, values: Any) -> Problem:
    """Check the candidates and place all arrays."""
    call, y = received.call, received.labels
    backend = call.backend
    ids, true_expected, sampled_expected = candidates = _candidates(received, options, values)
    known = None
    if all(label_policy.is_readable(x) for x in (y, ids)):
        known = y.facts.to_numpy(y.value), ids.facts.to_numpy(ids.value)
    dtype = dtypes.compute_dtype(call.main.dtype)
    arrays = [
        call.place(call.main, dtype, rank=2),
        _placed_ids(call, y, options.num_classes, rank=2),
        _placed_ids(call, ids, options.num_classes, rank=1),
        backend.stop_gradient(call.place(true_expected, dtype, rank=2)),
        backend.stop_gradient(call.place(sampled_expected, dtype, rank=1)),
    ]
    weights = [call.place(part, rank=2) for part in received.weights]
    biases = [call.place(part, rank=1) for part in received.biases]
    if shapes.is_open(*(x.shape for x in (call.main, y, *candidates, *received.biases, *received.weights))):
        arrays, weights, biases = _compared(call, options, arrays, weights, biases)
    inputs, true, sampled, of_true, of_sampled = arrays
    good = None
    if known is None:
        true, true_ok = _legal(call, true, options.num_classes)
        sampled, sampled_ok = _legal(call, sampled, options.num_classes)
        good = backend.all(true_ok, axis=-1) & backend.all(sampled_ok, axis=0)
    index = "int32" if options.num_classes < 2**31 else "int64"
    true, sampled = backend.astype(true, index), backend.astype(sampled, index)
    counts = of_true, of_sampled
    parts = tuple(weights), tuple(biases)
    return Problem(call, options, dtype, inputs, *parts, true, sampled, counts, good, known)


def _candidates(received: Received, options: Options, values: Any) -> tuple[Argument, Argument, Argument]:
    if not isinstance(values, (tuple, list)) or len(values) != 3:
        raise ArgumentTypeError(
            "sampled_values must be the three arrays (sampled, true_expected, sampled_expected), "
            f"got {f'{len(values)} of them' if isinstance(values, (tuple, list)) else f'a {type(values).__qualname__}'}"
            "; pass what a function of seqloss.samplers returned"
        )
    ids, of_true, of_sampled = (
        received.call.beside(name, value)
        for name, value in zip(("sampled", "true_expected", "sampled_expected"), values, strict=True)
    )
    for argument in (ids, of_sampled):
        shape = argument.shape
        if shape is not None and (len(shape) != 1 or _differ(shape[0], options.num_sampled)):
            raise ShapeError(
                f"{argument.name} must have the shape [num_sampled] = [{options.num_sampled}], "
                f"got {shapes.text(shape)}; pass the num_sampled that the candidates were drawn with"
            )
    main = received.call.main.shape
    shapes.equal_shape("true_expected", of_true.shape, "labels", (None if main is None else main[0], options.num_true))
    label_policy.are_ids(ids)
    for argument in (of_true, of_sampled):
        if argument.dtype not in dtypes.FLOATS and argument.dtype not in dtypes.INTEGERS:
            raise DTypeError(f"{argument.name} must hold expected counts, got {argument.dtype}; cast them to float32")
    return ids, of_true, of_sampled


def _placed_ids(call: Call, argument: Argument, classes: int, rank: int) -> Array:
    """Ids in int32, or in int64 where they are of 64 bits or there are more classes; checked if that needs no waiting.

    Unsigned ids that are too large turn negative, and so stay illegal.
    """
    label_policy.check(argument, classes, None, None, mend=IS_CLASS, too_large=IS_CLASS)
    argument = label_policy.for_placing(argument, classes) if argument.is_host else argument
    array = dispatch.place(call.backend, argument, call.main.value)
    array = call.backend.with_rank(array, rank) if argument.shape is None else array
    wide = call.backend.dtype(array) in ("int64", "uint64") or classes >= 2**31
    return call.backend.astype(array, "int64" if wide else "int32")


def _legal(call: Call, ids: Array, classes: int) -> tuple[Array, Array]:
    """Ids with 0 in place of those that are not classes, and where these are."""
    is_class = (ids >= 0) & (ids < classes)
    return call.backend.where(is_class, ids, 0), is_class


def _compared(
    call: Call, options: Options, arrays: list[Array], weights: list[Array], biases: list[Array]
) -> tuple[list[Array], list[Array], list[Array]]:
    """The arrays, compared at run time."""
    backend = call.backend
    inputs, true, sampled, of_true, of_sampled = arrays

    def counted(x: Array, size: int) -> Array:
        return call.compare([x, backend.arange(size, like=inputs)], SIZES_DIFFER)[0]

    def swapped(x: Array) -> Array:
        return backend.permute_dims(x, (1, 0))

    sampled, of_sampled = (counted(x, options.num_sampled) for x in (sampled, of_sampled))
    true = swapped(counted(swapped(true), options.num_true))
    true, of_true = call.compare_same(true, of_true, SIZES_DIFFER)
    true, _ = call.compare([true, backend.sum(inputs, axis=(1,))], SIZES_DIFFER)
    weights, biases = (
        [counted(x, size) for x, size in zip(parts, shards.rows(options.num_classes, len(parts)), strict=True)]
        for parts in (weights, biases)
    )
    return [inputs, true, sampled, of_true, of_sampled], weights, biases
