"""Checks of packed input: the sequences of a batch one after the other, and the offsets at which each begins.

As in :mod:`seqloss.core.shapes`, a check of a size that is unknown while tracing is left open.
"""

from typing import Any

from seqloss.core import dtypes, hints
from seqloss.core.errors import ArgumentTypeError, OptionError, ShapeError
from seqloss.core.shapes import Shape, is_open, text


def logits(got: Shape) -> None:
    if got is not None and len(got) != 2:
        mend = "for a padded batch leave cu_seqlens out" if len(got) == 3 else "flatten all axes but the last"
        raise ShapeError(f"packed logits must have the shape [tokens, classes], got {text(got)}; {mend}")


def hidden(got: Shape) -> None:
    if got is not None and len(got) != 2:
        mend = "a padded batch goes without cu_seqlens" if len(got) == 3 else "flatten all axes but the last"
        raise ShapeError(f"packed hidden must have the shape [tokens, features], got {text(got)}; {mend}")


def token_ids(got: Shape) -> None:
    if got is not None and len(got) != 1:
        raise ShapeError(
            f"packed targets must have the shape [tokens], got {text(got)}; for a padded batch leave cu_seqlens out"
        )


def tokens(name: str, got: Shape, logits: Shape) -> bool:
    """Targets or weights. Whether the comparison is left open."""
    expected = (None,) if logits is None else logits[:1]
    if got is not None and not (len(got) == 1 and hints.agree(got, expected)):
        raise ShapeError(
            f"packed {name} must have the shape [tokens] = {text(expected)} of logits, got {text(got)}; "
            f"{hints.EVERY_SIZE}"
        )
    return is_open(got, expected)


def soft_targets(got: Shape, logits: Shape) -> bool:
    """Whether the comparison is left open."""
    if got is None or logits is None:
        return True
    if not hints.agree(got, logits):
        raise ShapeError(
            f"packed soft targets must have the shape [tokens, classes] = {text(logits)} of logits, "
            f"got {text(got)}; {hints.EVERY_SIZE}"
        )
    return is_open(got, logits)


def offsets(got: Shape, dtype: str) -> None:
    if got is not None and (len(got) != 1 or got[0] == 0):
        raise ShapeError(
            f"cu_seqlens must have the shape [batch + 1], got {text(got)}; pass the offset at which each sequence "
            "begins, and then the number of tokens"
        )
    dtypes.integers("cu_seqlens", dtype)


def are_offsets(values: Any, tokens: int | None) -> None:
    """Raise OptionError unless values, a NumPy array, can be the offsets of so many tokens."""
    wrong = None
    falls = (values[1:] < values[:-1]).nonzero()[0]
    if values[0] != 0:
        wrong = f"cu_seqlens must begin with 0, got {int(values[0])}"
    elif len(falls):
        i = int(falls[0])
        wrong = f"cu_seqlens must not decrease, but [{i}] is {int(values[i])} and [{i + 1}] is {int(values[i + 1])}"
    elif tokens is not None and values[-1] != tokens:
        wrong = f"cu_seqlens must end with the number of tokens, {tokens}, got {int(values[-1])}"
    if wrong is not None:
        raise OptionError(f"{wrong}; for a padded buffer add one more sequence, whose tokens have weight 0")


def beside_lengths() -> None:
    raise OptionError(
        "lengths cannot be combined with packed sequences, which have lengths of their own; leave them out"
    )


def beside_ragged() -> None:
    raise OptionError("cu_seqlens cannot be combined with ragged logits, which have offsets of their own; leave it out")


def other_form(name: str, is_ragged: bool) -> None:
    """An argument that is ragged while logits are not, or the other way round."""
    ragged, dense = (name, "logits") if is_ragged else ("logits", name)
    raise ArgumentTypeError(f"{ragged} are ragged but {dense} are not; pass all of them in one form")


def same_batch(name: str, got: Shape, of_logits: Shape) -> None:
    """The shapes of the offsets of two ragged arrays."""
    if got is not None and of_logits is not None and not hints.agree(got, of_logits):
        batch, expected = (text((None if x[0] is None else x[0] - 1,)) for x in (got, of_logits))
        raise ShapeError(
            f"{name} must have the batch size {expected} of ragged logits, got {batch}; {hints.EVERY_SIZE}"
        )


def same_offsets(name: str, values: Any, of_logits: Any) -> None:
    """Raise ShapeError unless both, NumPy arrays, are the same."""
    if values.shape != of_logits.shape or (values != of_logits).any():
        raise ShapeError(
            f"{name} must have the sequence lengths of ragged logits, {_lengths(of_logits)}, got {_lengths(values)}; "
            "check that all come from the same batch"
        )


def _lengths(offsets: Any) -> str:
    lengths = (offsets[1:] - offsets[:-1]).tolist()
    return text((*lengths[:8],)).replace("]", ", ...]" if len(lengths) > 8 else "]")


def no_loss_of_timesteps() -> None:
    raise OptionError(
        "packed sequences have no common timesteps, but the flags keep only the time axis; average across timesteps "
        "as well, or pass a padded batch"
    )
