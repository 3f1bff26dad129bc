"""Checks of what is no array: flags, options, names and numbers of a call."""

from numbers import Integral, Real
from typing import Any

from seqloss.core.errors import ArgumentTypeError, OptionError, ShapeError


def flag(name: str, value: Any) -> None:
    """A flag must be a real bool: old code passes a vocabulary size in these positions."""
    if not isinstance(value, bool):
        raise ArgumentTypeError(
            f"{name} must be True or False, got {value!r}; pass it by keyword if a positional argument slipped here"
        )


def flags(
    average_across_timesteps: Any, average_across_batch: Any, sum_over_timesteps: Any, sum_over_batch: Any
) -> None:
    flag("average_across_timesteps", average_across_timesteps)
    flag("average_across_batch", average_across_batch)
    flag("sum_over_timesteps", sum_over_timesteps)
    flag("sum_over_batch", sum_over_batch)
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


def exact(value: Any, softmax_loss_function: Any = None) -> None:
    flag("exact", value)
    if value and softmax_loss_function is not None:
        raise OptionError(
            "exact=True cannot be had with a softmax_loss_function, whose results seqloss does not compute; "
            "leave one of the two out"
        )


def gradient_names(wrt: Any) -> tuple[str, ...]:
    """The arguments to differentiate, as a tuple; ``"logits"``, ``"weights"``, or several of them."""
    names = (wrt,) if isinstance(wrt, str) else tuple(wrt) if isinstance(wrt, (tuple, list)) else ()
    legal = names and all(isinstance(n, str) and n in ("logits", "weights") for n in names)
    if not legal or len(set(names)) != len(names):
        raise OptionError(f"wrt must be 'logits', 'weights' or a tuple of both, got {wrt!r}")
    return names


def maxlen(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, Integral)):
        raise ArgumentTypeError(f"maxlen must be a Python integer or None, got {value!r}; convert it with int(...)")
    if value < 0:
        raise ShapeError(f"maxlen must not be negative, got {value}; a mask has at least 0 columns")
    if int(value) >= 2**31:
        raise ShapeError(f"maxlen must be below 2**31, got {value}; no mask has so many columns")


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
            f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {value!r}; "
            "take it from seqloss.Reduction, as in seqloss.Reduction.MEAN"
        )


def scope_name(option: str, value: Any) -> None:
    """``name`` or ``scope``."""
    if value is not None and not isinstance(value, str):
        raise ArgumentTypeError(f"{option} must be a string or None, got {value!r}")


def class_axis(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, Integral)):
        raise ArgumentTypeError(f"axis must be a Python integer, got {value!r}; it is the class axis of logits")


def label_smoothing(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, Real)):
        raise ArgumentTypeError(f"label_smoothing must be a Python number, got {value!r}; convert it with float(...)")
    if not value <= 1:
        raise OptionError(
            f"label_smoothing must be at most 1, got {value}; it is a fraction, not per cent (0 and less switch it off)"
        )


def finite_float(name: str, value: Any) -> float:
    """A Python number as a float; an integer may be too large to be one."""
    try:
        return float(value)
    except OverflowError:
        raise OptionError(f"{name} is an integer beyond the range of floats; pass a number below 1e308") from None
