"""The label policy: when labels are read, and what happens to a label outside [0, classes).

Where the values can be read without waiting for a device, a bad label of a token that counts is an error with its
coordinates. Elsewhere the kernel makes the loss and the gradient row of that token NaN. Labels of tokens of weight 0
are free everywhere.
"""

from typing import Any, NamedTuple

from seqloss.core import dtypes
from seqloss.core.argument import Argument
from seqloss.core.errors import DTypeError, LabelError, OptionError, UnreadableError
from seqloss.core.protocol import SMALLEST_ACTIVE

TOO_LARGE = "labels count from 0; is the vocabulary larger than the last axis of logits?"
"""A label beyond the classes is a real token far more often than padding: to mask it would hide the mistake."""


IGNORE = "to leave such positions out pass ignore_index={} to seqloss.sequence_loss, or give them weight 0"
"""How to fix padding among the labels of a sequence loss."""


class Out(NamedTuple):
    """What makes tokens ignored, so that their labels are free: labels themselves, and the lengths of sequences."""

    ignored: tuple[int, ...] = ()
    lengths: Argument | None = None


NONE_OUT = Out()


def check(
    targets: Argument,
    classes: int | None,
    weights: Argument | None,
    check_labels: bool | None,
    mask: str = "weights",
    mend: str | None = None,
    dtype: str | None = None,
    too_large: str = TOO_LARGE,
    out: Out = NONE_OUT,
) -> None:
    """Raise LabelError for a bad label of a token that counts, as far as the values are to be read.

    ``weights`` (None: every token counts) are bools, or numbers that become ``dtype``; a token counts unless its weight
    is then below the smallest one that is active. Both are the arrays of the caller, because what a framework makes of
    them inside of a compiled function has no values, even where they have. ``mask`` is what the caller knows the
    weights as: weights, or the ``active`` of token_loss; a function that has neither says with ``mend`` what else
    helps against negative labels, which are padding, and with ``too_large`` against the others.
    """
    if check_labels is False:
        return
    values = None
    if classes is not None and check_labels is None and is_readable(targets):
        values = _values(targets)
        if _are_classes(
            values, classes
        ):  # first: this costs least, and if labels are good the weights need not be read
            return
    beside = [argument for argument in (targets, weights, out.lengths) if argument is not None]
    if classes is None or not all(is_readable(argument, sync=bool(check_labels)) for argument in beside):
        _see_unread(check_labels)
        return
    values = _values(targets) if values is None else values
    counts = None if weights is None else _counts(_values(weights), dtype)
    if out != NONE_OUT:
        counts = _kept(values, out) if counts is None else counts & _kept(values, out)
    _raise_first(targets.name, values, classes, counts, mend or _mend(mask, weights is None), too_large)


def _are_classes(values: Any, classes: int) -> bool:
    """Whether all of a NumPy array of integers are in [0, classes)."""
    import numpy as np

    if values.size == 0:
        return True
    if values.dtype == np.int64:
        # One look is enough: as unsigned numbers those below 0 are too large, as they may not be in fewer bits.
        return bool(np.maximum.reduce(values.view(np.uint64), axis=None) < classes)
    return bool(values.min() >= 0 and values.max() < classes)


def check_soft(
    targets: Argument, weights: Argument | None, check_labels: bool | None, dtype: str, out: Out = NONE_OUT
) -> None:
    """Raise LabelError for a negative number in the soft targets of a token that counts, if they are to be read.

    They are many, so that None does not read them: the kernel is to make NaN of such a token.
    """
    if not check_labels:
        return
    beside = [argument for argument in (targets, weights, out.lengths) if argument is not None]
    if not all(is_readable(argument, sync=True) for argument in beside):
        _see_unread(check_labels)
    values = _values(targets)
    bad = values < 0
    if weights is not None:
        bad &= _counts(_values(weights), dtype)[..., None]
    if out.lengths is not None:
        bad &= (_positions(bad) < _values(out.lengths)[:, None])[..., None]
    found = bad.nonzero()
    if len(found[0]):
        first = tuple(int(i[0]) for i in found)
        more = f" (and {len(found[0]) - 1} more)" if len(found[0]) > 1 else ""
        raise LabelError(
            f"targets[{', '.join(map(str, first))}] is {float(values[first])}, but soft targets must not be "
            f"negative{more}; are they log probabilities?"
        )


def _see_unread(check_labels: bool | None) -> None:
    """Labels that cannot be read may go unread unless they were to be checked."""
    if check_labels:
        raise UnreadableError(
            "check_labels=True must read targets and weights, but here they have no values yet (traced, batched, or "
            "without storage); check them outside the compiled function, or pass check_labels=None"
        )


def is_readable(argument: Argument, *, sync: bool = False) -> bool:
    """Whether the values can be read in Python without waiting for a device (``sync``: even if one must wait)."""
    location = argument.facts.location(argument.value)
    return location == "host" or (sync and location == "device")


def _mend(mask: str, is_missing: bool) -> str:
    mend = "give such positions weight 0" if mask == "weights" else "set active to False at such positions"
    return f"{mend}, as in {mask}=(targets != {{}})" if is_missing else mend


def _values(argument: Argument) -> Any:
    return argument.facts.to_numpy(argument.value).reshape(argument.shape)


def _counts(weights: Any, dtype: str | None) -> Any:
    """Which tokens count, from weights as a NumPy array."""
    import numpy as np

    if weights.dtype == np.bool_:
        return weights
    with np.errstate(all="ignore"):  # what overflows is an infinite weight
        return ~(np.abs(weights.astype(dtype)) < SMALLEST_ACTIVE)


def _kept(labels: Any, out: Out) -> Any:
    """Which tokens are not ignored, from their labels as a NumPy array."""
    import numpy as np

    kept = ~np.isin(labels, out.ignored)
    if out.lengths is not None:
        kept &= _positions(labels) < _values(out.lengths)[:, None]
    return kept


def _positions(tokens: Any) -> Any:
    """The numbers of the timesteps of a NumPy array [batch, time, ...]."""
    import numpy as np

    return np.arange(tokens.shape[1])


def can_hold(dtype: str, label: int) -> bool:
    """Whether an integer dtype has this number."""
    bits = int(dtype.removeprefix("u").removeprefix("int"))
    return 0 <= label < 1 << bits if dtype.startswith("u") else -(1 << bits - 1) <= label < 1 << bits - 1


def lengths_in_time(lengths: Any, time: int) -> None:
    """Raise OptionError for a length that a sequence cannot have, from lengths as a NumPy array."""
    bad = ((lengths < 0) | (lengths > time)).nonzero()[0]
    if len(bad):
        raise OptionError(
            f"lengths[{int(bad[0])}] is {int(lengths[bad[0]])}, but sequences have {time} timesteps; a length must be "
            "from 0 to that number"
        )


def not_negative(name: str, values: Any) -> None:
    """Raise OptionError for a negative number of a class, from a NumPy array."""
    bad = (values < 0).nonzero()[0]
    if len(bad):
        raise OptionError(
            f"{name}[{int(bad[0])}] is {float(values[bad[0]])}, but the number of a class must not be negative; to "
            "leave a class out give it 0"
        )


def _raise_first(name: str, labels: Any, classes: int, counts: Any, mend: str, too_large: str) -> None:
    import numpy as np

    bad = (labels < 0) | (labels >= classes)
    if counts is not None:
        bad &= counts
    found = np.argwhere(bad)
    if len(found) == 0:
        return
    first = tuple(int(i) for i in found[0])
    value = int(labels[first])
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = f"{name}[{', '.join(map(str, first))}]" if first else name
    hint = mend.format(value) if value < 0 else too_large
    raise LabelError(f"{where} is {value}, outside [0, {classes}){more}; {hint}")


def are_ids(argument: Argument) -> None:
    """Class ids are integers."""
    if argument.dtype not in dtypes.INTEGERS:
        raise DTypeError(f"{argument.name} must be integer class ids, got {argument.dtype}; cast them to int64")


def readable_to_draw(argument: Argument) -> None:
    """Candidates are drawn on the host, so waiting for a device cannot be avoided."""
    if not is_readable(argument, sync=True):
        raise UnreadableError(
            f"{argument.name} have no values yet (traced, batched, or without storage), but candidates are drawn on "
            "the host; draw them outside the compiled function, as with samplers.log_uniform_candidate_sampler, and "
            "pass them as sampled_values"
        )


def ids_to_draw(ids: Argument) -> Any:
    """The values of class ids that candidates are drawn for, or that were drawn, as a NumPy array."""
    are_ids(ids)
    readable_to_draw(ids)
    return _values(ids)


def in_range(name: str, values: Any, classes: int, mend: str) -> None:
    """Raise LabelError unless all values, a NumPy array, are in [0, classes)."""
    _raise_first(name, values, classes, None, mend, mend)


def for_placing(targets: Argument, classes: int | None) -> Argument:
    """Host labels as int64 with -1 for every bad one, so that a narrower integer dtype cannot wrap one into range."""
    import numpy as np

    labels = targets.value
    limit = np.iinfo(np.int64).max if classes is None else classes - 1
    return targets.holding(np.where((labels < 0) | (labels > limit), -1, labels).astype(np.int64))
