"""Structure checks: rank, sizes, dtype kinds, flags.

Pure Python on facts (a shape tuple, a dtype name). Nothing here touches an array, so the same check with the same
text runs eagerly and under every kind of tracing. A size that is unknown while tracing is ``None``, an unknown rank
is a shape of ``None``; a check that needs it is left open, and the function says so by returning True, whereupon the
caller has the backend compare the sizes when the graph runs.
"""

from numbers import Integral
from typing import Any

from seqloss.core.errors import ArgumentTypeError, DTypeError, OptionError, ShapeError

Shape = tuple[int | None, ...] | None

FLOATS = ("bfloat16", "float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

SIZES_DIFFER = (
    "targets and weights must have the [batch, time] of logits, but their sizes differ when the graph runs; "
    "see that all three come from the same padded batch"
)
TOKEN_SIZES_DIFFER = (
    "targets and active must have the shape of logits without the class axis, but their sizes differ when the graph "
    "runs; see that all come from the same padded batch"
)
COTANGENT_SIZES_DIFFER = "cotangent must have the shape of the loss, but its size differs when the graph runs"
CUSTOM_SIZES_DIFFER = "softmax_loss_function must return one loss per token, [batch * time], but its size differs"


def compute_dtype(logits_dtype: str) -> str:
    """The dtype that losses are computed and returned in: max(float32, logits)."""
    return "float64" if logits_dtype == "float64" else "float32"


# --- flags and options -------------------------------------------------------------------------------------------


def _flag(name: str, value: Any) -> None:
    """A flag must be a real bool: old code passes a vocabulary size in these positions."""
    if not isinstance(value, bool):
        raise ArgumentTypeError(
            f"{name} must be True or False, got {value!r}; pass it by keyword if a positional argument slipped here"
        )


def flags(
    average_across_timesteps: Any, average_across_batch: Any, sum_over_timesteps: Any, sum_over_batch: Any
) -> None:
    _flag("average_across_timesteps", average_across_timesteps)
    _flag("average_across_batch", average_across_batch)
    _flag("sum_over_timesteps", sum_over_timesteps)
    _flag("sum_over_batch", sum_over_batch)
    if average_across_timesteps and sum_over_timesteps:
        _contradiction("average_across_timesteps", "sum_over_timesteps", "an axis has one denominator")
    if average_across_batch and sum_over_batch:
        _contradiction("average_across_batch", "sum_over_batch", "an axis has one denominator")
    if average_across_batch and sum_over_timesteps:
        _contradiction("average_across_batch", "sum_over_timesteps", "the order of the two would be ambiguous")
    if average_across_timesteps and sum_over_batch:
        _contradiction("average_across_timesteps", "sum_over_batch", "the order of the two would be ambiguous")


def _contradiction(one: str, other: str, why: str) -> None:
    raise OptionError(
        f"{one} and {other} cannot both be True, {why}; set one of them to False "
        "(both average flags are True unless you say otherwise)"
    )


def loss_options(softmax_loss_function: Any, name: Any, check_labels: Any) -> None:
    """The options of a sequence loss that are no flags of the reduction."""
    if softmax_loss_function is not None and not callable(softmax_loss_function):
        raise ArgumentTypeError(
            "softmax_loss_function must be callable with the keywords labels= and logits=, or None, "
            f"got {softmax_loss_function!r}"
        )
    if name is not None and not isinstance(name, str):
        raise ArgumentTypeError(f"name must be a string or None, got {name!r}")
    if check_labels is not None and not isinstance(check_labels, bool):
        raise ArgumentTypeError(f"check_labels must be None, True or False, got {check_labels!r}")
    if check_labels and softmax_loss_function is not None:
        raise OptionError(
            "check_labels=True cannot be had with a softmax_loss_function, whose last axis need not be classes; "
            "check the labels inside that function"
        )


def gradient_names(wrt: Any) -> tuple[str, ...]:
    """The arguments to differentiate, as a tuple; ``"logits"``, ``"weights"``, or several of them."""
    names = (wrt,) if isinstance(wrt, str) else tuple(wrt) if isinstance(wrt, (tuple, list)) else ()
    legal = names and all(isinstance(n, str) and n in ("logits", "weights") for n in names)
    if not legal or len(set(names)) != len(names):
        raise OptionError(f"wrt must be 'logits', 'weights' or a tuple of both, got {wrt!r}")
    return names


# --- dtypes ------------------------------------------------------------------------------------------------------


def float_dtype(name: str, dtype: str) -> None:
    if dtype not in FLOATS:
        raise DTypeError(f"{name} must be of one of the dtypes {', '.join(FLOATS)}, got {dtype}; cast it first")


def lengths_dtype(dtype: str) -> None:
    if dtype not in INTEGERS:
        raise DTypeError(f"lengths must be integers, got {dtype}; cast them to an integer dtype")


def targets_dtype(dtype: str) -> None:
    if dtype in INTEGERS:
        return
    mend = (
        "a bool array is a mask, not labels"
        if dtype == "bool"
        else "class probabilities belong in a soft-label cross entropy, class ids must be cast to an integer dtype"
    )
    raise DTypeError(f"targets must be integer class labels, got {dtype}; {mend}")


def weights_dtype(dtype: str) -> None:
    if dtype not in FLOATS and dtype not in INTEGERS and dtype != "bool":
        raise DTypeError(f"weights must be a float, integer or bool array, got {dtype}; cast it first")


def bool_dtype(name: str, dtype: str) -> None:
    if dtype != "bool":
        raise DTypeError(f"{name} must be a bool array, got {dtype}; compare it first, as in {name} != 0")


def cotangent_dtype(dtype: str) -> None:
    if dtype not in FLOATS and dtype not in INTEGERS:
        raise DTypeError(f"cotangent must be a float or integer array, got {dtype}; cast it to a float dtype")


def differentiable_weights(dtype: str | None) -> None:
    """The gradient to weights exists only where weights were given, as floats."""
    if dtype is None:
        raise ArgumentTypeError("wrt names weights, but weights is None; pass an array of floats")
    if dtype not in FLOATS:
        raise DTypeError(f"wrt names weights, but they are {dtype}, which has no gradient; cast them to a float dtype")


# --- shapes ------------------------------------------------------------------------------------------------------


def text(shape: Shape) -> str:
    if shape is None:
        return "unknown"
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _same_sizes(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def is_open(*shapes: Shape) -> bool:
    """Whether any size is unknown, so that the comparison must wait until the graph runs."""
    return any(shape is None or None in shape for shape in shapes)


def classes(logits: Shape) -> None:
    if logits is not None and logits and logits[-1] == 0:
        raise ShapeError(f"logits have no classes, got {text(logits)}; the last axis must hold at least one class")


def sequence_logits(logits: Shape) -> None:
    if logits is None or len(logits) == 3:
        return
    mend = "see that the axes are batch, time and classes, in this order"
    if len(logits) == 2:
        mend = (
            "packed logits [tokens, classes] go to seqloss.token_loss, "
            "or add a batch axis to all arguments, as in logits[None]"
        )
    raise ShapeError(f"logits must have the shape [batch, time, classes], got {text(logits)}; {mend}")


def sequence_targets(targets: Shape, logits: Shape) -> bool:
    """Whether the comparison is left open."""
    expected = (None, None) if logits is None else logits[:2]
    if targets is not None and len(targets) != 2:
        mend = "see that there is one label per token"
        if len(targets) == 3:
            mend = "one-hot targets become labels by argmax over their last axis"
        elif len(targets) == 1:
            mend = "add a batch axis, as in targets[None]"
        raise ShapeError(f"targets must have the shape [batch, time] = {text(expected)}, got {text(targets)}; {mend}")
    return _pair("targets", targets, expected)


def sequence_weights(weights: Shape, logits: Shape) -> bool:
    """Whether the comparison is left open."""
    expected = (None, None) if logits is None else logits[:2]
    if weights is not None and len(weights) != 2:
        mend = "there must be one weight per token"
        if len(weights) == 1:
            mend = "for one weight per sequence, repeat weights[:, None] along the time axis"
        elif len(weights) == 0:
            mend = "for one weight for all tokens, multiply the loss by it"
        raise ShapeError(f"weights must have the shape [batch, time] = {text(expected)}, got {text(weights)}; {mend}")
    return _pair("weights", weights, expected)


def _pair(name: str, got: Shape, expected: tuple[Any, ...]) -> bool:
    if got == expected and None not in expected:
        return False
    if got is not None and not _same_sizes(got, expected):
        mend = "every size must match, nothing is broadcast"
        if _same_sizes(got, tuple(reversed(expected))):
            mend = f"it is transposed: swap the two axes of {name}"
        raise ShapeError(
            f"{name} must have the shape [batch, time] = {text(expected)} of logits, got {text(got)}; {mend}"
        )
    return is_open(got, expected)


def token_logits(logits: Shape) -> None:
    if logits is not None and len(logits) == 0:
        raise ShapeError("logits must have the shape [..., classes], got []; a single number has no classes")


def token_argument(name: str, got: Shape, logits: Shape) -> bool:
    """``name`` must have the shape of logits without the class axis. Whether the comparison is left open."""
    if got is None or logits is None:
        return True
    expected = logits[:-1]
    if len(got) != len(expected) or not _same_sizes(got, expected):
        raise ShapeError(
            f"{name} must have the shape {text(expected)} of logits without the class axis, got {text(got)}; "
            "every size must match, nothing is broadcast"
        )
    return is_open(got, expected)


def custom_loss(got: Shape, tokens: int | None) -> bool:
    """The result of a softmax_loss_function. Whether the comparison is left open."""
    if got is not None and (len(got) != 1 or not _same_sizes(got, (tokens,))):
        raise ShapeError(
            f"softmax_loss_function must return one loss per token, the shape [batch * time] = {text((tokens,))}, "
            f"got {text(got)}; do not reduce or keep a class axis inside it"
        )
    return is_open(got, (tokens,))


def cotangent(got: Shape, expected: Shape) -> bool:
    """Whether the comparison is left open."""
    if got is None or expected is None:
        return True
    if len(got) != len(expected) or not _same_sizes(got, expected):
        raise ShapeError(
            f"cotangent must have the shape {text(expected)} of the loss, got {text(got)}; nothing is broadcast"
        )
    return is_open(got, expected)


def maxlen(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, Integral)):
        raise ArgumentTypeError(f"maxlen must be a Python integer or None, got {value!r}; convert it with int(...)")
    if value < 0:
        raise ShapeError(f"maxlen must not be negative, got {value}; a mask has at least 0 columns")


def dtype_name(dtype: Any) -> str:
    """The name of a dtype that is given by name or as a dtype of any framework."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", str(dtype))
    name = str(name).rpartition(".")[2].rstrip("_")  # NumPy 1 calls its bool bool_
    if name != "bool" and name not in FLOATS and name not in INTEGERS:
        raise DTypeError(f"dtype must name a bool, integer or float dtype such as 'float32', got {dtype!r}")
    return name
