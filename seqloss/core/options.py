"""Checks of arguments that are not arrays: flags, options, names and numbers of a call."""

from collections.abc import Iterable, Sequence
from numbers import Integral, Number, Real
from typing import Any

from seqloss.core.errors import ArgumentTypeError, OptionError, ShapeError
from seqloss.core.hints import shown


def is_array(value: Any) -> bool:
    """Whether an option is an array, a traced one too. The scalars of NumPy are numbers, except its bools."""
    # Numbers first: torch.compile (torch 2.13) cannot look for attributes of a symbolic one.
    return not isinstance(value, (int, float, Number)) and hasattr(value, "shape") and hasattr(value, "dtype")


def no_array(convert: str) -> str:
    """What to do about an array in place of a Python value, a common mistake in compiled code."""
    return (
        "it decides what is compiled, so it cannot be traced: make it static, as with functools.partial or "
        f"jax.jit(..., static_argnames=...), or convert it with {convert}(...)"
    )


def known(owner: str, given: Iterable[str], legal: Iterable[str], elsewhere: str) -> None:
    """The names of the options of an object; ``elsewhere`` is a sentence about arguments that are not options."""
    legal = tuple(legal)
    for name in given:
        if name not in legal:
            raise ArgumentTypeError(f"{owner} has no argument {name!r}; it has {', '.join(legal)}. {elsewhere}")


def is_bool(value: Any) -> bool:
    """Whether ``value`` is a bool of Python or of NumPy, which is told by its name: nothing here imports NumPy."""
    kind = type(value)
    return isinstance(value, bool) or (kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_"))


def flag(name: str, value: Any) -> bool:
    """A flag, as a bool of Python. It must be a real bool: old code passes a vocabulary size in these positions."""
    if value is True or value is False:
        return value
    if is_bool(value):
        return bool(value)
    if is_array(value):
        raise ArgumentTypeError(f"{name} must be True or False, got an array; {no_array('bool')}")
    raise ArgumentTypeError(
        f"{name} must be True or False, got {shown(value)}; if a positional argument ended up here by mistake, pass it "
        "by keyword"
    )


def flags(
    average_across_timesteps: Any, average_across_batch: Any, sum_over_timesteps: Any, sum_over_batch: Any
) -> tuple[bool, bool, bool, bool]:
    """The four flags of a sequence loss, as bools of Python that do not contradict each other."""
    given = bools(average_across_timesteps, average_across_batch, sum_over_timesteps, sum_over_batch)
    average_time, average_batch, sum_time, sum_batch = given
    if average_time and sum_time:
        _contradiction("average_across_timesteps", "sum_over_timesteps", "because an axis has one denominator")
    if average_batch and sum_batch:
        _contradiction("average_across_batch", "sum_over_batch", "because an axis has one denominator")
    if average_batch and sum_time:
        _contradiction("average_across_batch", "sum_over_timesteps", "because their order would be ambiguous")
    if average_time and sum_batch:
        _contradiction("average_across_timesteps", "sum_over_batch", "because their order would be ambiguous")
    return given


def bools(
    average_across_timesteps: Any, average_across_batch: Any, sum_over_timesteps: Any, sum_over_batch: Any
) -> tuple[bool, bool, bool, bool]:
    """The same, whatever they say together."""
    average_time = flag("average_across_timesteps", average_across_timesteps)
    average_batch = flag("average_across_batch", average_across_batch)
    sum_time = flag("sum_over_timesteps", sum_over_timesteps)
    sum_batch = flag("sum_over_batch", sum_over_batch)
    return average_time, average_batch, sum_time, sum_batch


def _contradiction(one: str, other: str, why: str) -> None:
    raise OptionError(
        f"{one} and {other} cannot both be True, {why}; set one of them to False "
        "(both average flags are True unless you say otherwise). A sum_over flag divides too, by the number of tokens "
        "of non-zero weight: for a plain sum pass reduction='sum' to seqloss.sequence_loss"
    )


def variable(name: str, value: str, choices: Sequence[str], where: str = "") -> None:
    """An environment variable must have one of these values; ``where`` says where there are no others."""
    if value not in choices:
        raise OptionError(
            f"the environment variable {name} must be one of {', '.join(choices)}{where and ' ' + where}, got {value!r}"
        )


def loss_options(softmax_loss_function: Any, name: Any, check_labels: Any) -> bool | None:
    """The options of a sequence loss that are not flags of the reduction. Returns check_labels as Python has it."""
    if softmax_loss_function is not None and not callable(softmax_loss_function):
        raise ArgumentTypeError(
            "softmax_loss_function must be callable with the keywords labels= and logits=, or None, "
            f"got {shown(softmax_loss_function)}"
        )
    scope_name("name", name)
    checks = _three_valued("check_labels", check_labels)
    if checks and softmax_loss_function is not None:
        raise OptionError(
            "check_labels=True cannot be combined with a softmax_loss_function, whose last axis need not be classes; "
            "check the labels inside that function"
        )
    return checks


def _three_valued(name: str, value: Any) -> bool | None:
    if value is None or is_bool(value):
        return None if value is None else bool(value)
    if is_array(value):
        raise ArgumentTypeError(f"{name} must be None, True or False, got an array; {no_array('bool')}")
    raise ArgumentTypeError(f"{name} must be None, True or False, got {shown(value)}")


def exact(value: Any, softmax_loss_function: Any = None) -> bool:
    """The option exact, as a bool of Python."""
    is_exact = flag("exact", value)
    if is_exact and softmax_loss_function is not None:
        raise OptionError(
            "exact=True cannot be combined with a softmax_loss_function, whose results seqloss does not compute; "
            "leave one of them out"
        )
    return is_exact


_OF_LOGITS = ("logits", "weights", "targets")


def gradient_names(wrt: Any, known: tuple[str, ...] = _OF_LOGITS) -> tuple[str, ...]:
    """The arguments to differentiate, as a tuple: one of those that are known, or several of them."""
    if type(wrt) is str and wrt == "logits" and known is _OF_LOGITS:
        return ("logits",)
    names = (wrt,) if isinstance(wrt, str) else tuple(wrt) if isinstance(wrt, (tuple, list)) else ()
    legal = names and all(isinstance(n, str) and n in known for n in names)
    if not legal or len(set(names)) != len(names):
        listed = ", ".join(f"'{name}'" for name in known)
        raise OptionError(f"wrt must be {listed} or a tuple of them, got {shown(wrt)}")
    return names


def chunk(value: Any) -> int | None:
    """The most tokens of a chunk."""
    return None if value is None else integer("chunk", value, least=1)


def integer(name: str, value: Any, least: int) -> int:
    """A whole number of at least ``least``, as an integer of Python."""
    if is_array(value):
        raise ArgumentTypeError(f"{name} must be an integer, got an array; {no_array('int')}")
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ArgumentTypeError(f"{name} must be an integer, got {shown(value)}; convert it with int(...)")
    if value < least:
        raise OptionError(f"{name} must be at least {least}, got {shown(int(value))}")
    return int(value)


def maxlen(value: Any) -> None:
    if is_array(value):
        raise ArgumentTypeError(
            "maxlen must be a Python integer or None, got an array; it is the width of the mask, so it cannot be "
            "traced: take it from a shape, as in targets.shape[1], or make it static, as with functools.partial or "
            "jax.jit(..., static_argnames=...), or convert it with int(...)"
        )
    if isinstance(value, bool) or not isinstance(value, (int, Integral)):
        raise ArgumentTypeError(
            f"maxlen must be a Python integer or None, got {shown(value)}; convert it with int(...)"
        )
    if value < 0:
        raise ShapeError(f"maxlen must not be negative, got {shown(value)}; it is the number of columns of the mask")
    if int(value) >= 2**31:
        raise ShapeError(f"maxlen must be below 2**31, got {shown(value)}; it is the number of columns of the mask")


REDUCTIONS = (
    "none",
    "weighted_sum",
    "weighted_mean",
    "weighted_sum_over_batch_size",
    "weighted_sum_by_nonzero_weights",
)
"""The keys of ``seqloss.Reduction``."""


def reduction_key(value: Any) -> None:
    if not isinstance(value, str) or value not in REDUCTIONS:
        raise OptionError(
            f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {shown(value)}; "
            "take it from seqloss.Reduction, as in seqloss.Reduction.MEAN"
        )


def scope_name(option: str, value: Any) -> None:
    """``name`` or ``scope``."""
    if value is not None and not isinstance(value, str):
        raise ArgumentTypeError(f"{option} must be a string or None, got {shown(value)}")


def class_axis(value: Any) -> None:
    if is_array(value):
        raise ArgumentTypeError(f"axis must be a Python integer, got an array; {no_array('int')}")
    if isinstance(value, bool) or not isinstance(value, (int, Integral)):
        raise ArgumentTypeError(f"axis must be a Python integer, got {shown(value)}; it is the class axis of logits")


def label_smoothing(value: Any) -> None:
    if is_array(value):
        raise ArgumentTypeError(f"label_smoothing must be a Python number, got an array; {no_array('float')}")
    if isinstance(value, bool) or not isinstance(value, (int, float, Real)):
        raise ArgumentTypeError(
            f"label_smoothing must be a Python number, got {shown(value)}; convert it with float(...)"
        )
    if not value <= 1:
        raise OptionError(
            f"label_smoothing must be at most 1, got {value}; it is a fraction, not a percentage (0 or less turns it "
            "off)"
        )


def finite_float(name: str, value: Any) -> float:
    """A Python number as a float; an integer may be too large to be one."""
    try:
        return float(value)
    except OverflowError:
        raise OptionError(f"{name} is an integer beyond the range of floats; pass a number below 1e308") from None
