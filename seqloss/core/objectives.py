"""Checks of the options that say what a loss adds up, which tokens count, and how they are averaged."""

from math import inf
from numbers import Integral, Real
from typing import Any, Literal, cast

from seqloss.core.errors import ArgumentTypeError, OptionError
from seqloss.core.hints import shown
from seqloss.core.options import finite_float, flag, is_array, no_array
from seqloss.core.smoothing import Smoothing

Mean = Literal["mean", "sum", "none", "per_sequence", "sequence_mean"]
Wrt = Literal["logits", "weights", "targets"]
WrtLinear = Literal["hidden", "kernel", "bias", "weights"]
"""The arguments that a gradient may be asked for."""
MEANS = ("mean", "sum", "none", "per_sequence", "sequence_mean")
"""The values of ``reduction``."""

_OF_KEYS = {
    "weighted_sum": "reduction='sum'",
    "weighted_mean": "reduction='mean'",
    "weighted_sum_over_batch_size": "reduction='sum' with normalizer=(the number of losses)",
    "mean_with_sample_weight": "reduction='mean'",
    "sum_over_batch_size": "reduction='mean' without weights, else 'sum' with normalizer=(the number of losses)",
    "weighted_sum_by_nonzero_weights": (
        "no reduction, but the flags sum_over_timesteps and sum_over_batch, with both average flags False"
    ),
}
"""What the keys of ``seqloss.Reduction``, and those of Keras, are called here."""


def _number(name: str, value: Any, kinds: str = "a Python number") -> float:
    if is_array(value):
        raise ArgumentTypeError(f"{name} must be {kinds}, got an array; {no_array('float')}")
    if isinstance(value, bool) or not isinstance(value, (int, float, Real)):
        raise ArgumentTypeError(f"{name} must be {kinds}, got {shown(value)}; convert it with float(...)")
    return finite_float(name, value)


def smoothing(value: Any) -> Smoothing:
    """``label_smoothing``, a number or a Smoothing, as the latter; its prior is not looked at."""
    given = value if isinstance(value, Smoothing) else Smoothing(value)
    eps = _number("label_smoothing", given.eps, "a Python number or a seqloss.Smoothing")
    if not 0 <= eps < 1:
        raise OptionError(
            f"label_smoothing must be in [0, 1), got {shown(given.eps)}; it is the fraction that is spread, "
            "not per cent"
        )
    off_target = flag("Smoothing.off_target", given.off_target)
    return Smoothing(eps, off_target, flag("Smoothing.centred", given.centred), given.prior, _ids(given.exclude))


def _ids(exclude: Any) -> tuple[int, ...]:
    if is_array(exclude):
        raise ArgumentTypeError(f"Smoothing.exclude must be a tuple of class ids, got an array; {no_array('tuple')}")
    if not isinstance(exclude, (tuple, list)) or not all(_is_integer(i) for i in exclude):
        raise ArgumentTypeError(
            f"Smoothing.exclude must be a tuple of class ids, got {shown(exclude)}; "
            "write them as Python integers, a single one as in (0,)"
        )
    return tuple(int(i) for i in exclude)


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def excluded(exclude: tuple[int, ...], classes: int | None) -> None:
    """Refuse ids that are no classes."""
    for i in exclude:
        if i < 0 or (classes is not None and i >= classes):
            last = "the number of classes" if classes is None else f"{classes}"
            raise OptionError(
                f"Smoothing.exclude must hold class ids in [0, {last}), got {shown(i)}; leave out what is no class"
            )


def z_loss(value: Any) -> float:
    number = _number("z_loss", value)
    if not 0 <= number < inf:
        raise OptionError(f"z_loss must be at least 0 and finite, got {shown(value)}; a usual value is 1e-4")
    return number


def softcap(value: Any) -> float | None:
    number = None if value is None else _number("softcap", value, "a Python number or None")
    if number is not None and not 0 < number < inf:
        raise OptionError(f"softcap must be positive and finite, got {shown(value)}; pass None for no cap")
    return number


def together(smoothing: Smoothing, has_class_weights: bool) -> None:
    """Refuse class weights beside a smoothing for which libraries have no agreed formula."""
    if not (has_class_weights and smoothing.eps > 0):
        return
    for name in ("off_target", "centred"):
        if getattr(smoothing, name):
            raise OptionError(
                f"class_weights cannot be had with Smoothing({name}=True), for which there is no agreed formula; "
                "leave one of the two out"
            )


def beside_function(given: dict[str, bool]) -> None:
    """Refuse options of the loss of a token beside a softmax_loss_function; ``given`` says which are there."""
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise OptionError(
            f"{names[0]} cannot be had with a softmax_loss_function, which computes the loss of a token itself; "
            "leave one of the two out"
        )


def needing_ids(has_function: bool, off_target: bool, centred: bool, ignored: tuple[int, ...]) -> str | None:
    """The first option of a call, if any, that goes with integer targets alone."""
    if has_function:
        return "softmax_loss_function"
    if off_target or centred:
        return f"Smoothing({'off_target' if off_target else 'centred'}=True)"
    return "ignore_index" if len(ignored) > 0 else None


def beside_soft_targets(option: str) -> None:
    """Refuse an option that goes with integer targets alone."""
    mend = "give such tokens weight 0" if option == "ignore_index" else "leave it out, or pass class ids"
    if option == "seqloss.loss_sum":
        mend = "pass class ids, or call seqloss.sequence_loss"
    raise OptionError(f"{option} cannot be had with soft targets, which name no class; {mend}")


def ignore_index(value: Any) -> tuple[int, ...]:
    """The labels that take a token out."""
    if value is None:
        return ()
    if is_array(value):
        raise ArgumentTypeError(
            f"ignore_index must be a Python integer, a tuple of them or None, got an array; {no_array('int')}"
        )
    labels = value if isinstance(value, (tuple, list)) else (value,)
    if not all(_is_integer(i) for i in labels):
        raise ArgumentTypeError(
            f"ignore_index must be a Python integer, a tuple of them or None, got {shown(value)}; "
            "to leave out tokens by a mask give them weight 0"
        )
    return tuple(int(i) for i in labels)


def reduction(value: Any, flags: tuple[bool, ...]) -> Mean:
    """``reduction``, beside which the flags must be as they are by default."""
    if not isinstance(value, str) or value not in MEANS:
        mend = f"; here it is {_OF_KEYS[value]}" if isinstance(value, str) and value in _OF_KEYS else ""
        raise OptionError(f"reduction must be one of {', '.join(map(repr, MEANS))} or None, got {shown(value)}{mend}")
    if flags != (True, True, False, False):
        raise OptionError(
            f"reduction={value!r} cannot be had with flags that average or sum, which say the same in another way; "
            "leave the flags out"
        )
    return cast(Mean, value)


def normalizer(is_given: bool, is_scalar: bool) -> None:
    if is_given and not is_scalar:
        raise OptionError(
            "normalizer takes the place of the denominator of a loss that is a single number, but here the flags or "
            "the reduction keep an axis; divide the result instead, or pass reduction='sum'"
        )


def is_count(normalizer: float) -> None:
    if not normalizer >= 0:
        raise OptionError(
            f"normalizer must not be negative or NaN, got {shown(normalizer)}; "
            "the weighted sum is divided by it, as by a count of tokens, and where it is 0 the loss is 0"
        )
