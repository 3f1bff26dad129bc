"""The sums of a perplexity, and how they are added up in variables of Keras."""

from typing import Any

import keras

import seqloss
from seqloss.core.call import Call
from seqloss.core.objectives import ignore_index as labels_out
from seqloss.core.protocol import Array
from seqloss.losses import arguments
from seqloss.losses.beside import NOTHING_BESIDE

OPTIONS = ("ignore_index", "softcap", "exact")
"""The options of a loss of which a perplexity can be had."""


def of_tokens(
    logits: Array, targets: Array, weights: Array | None, *, ignore_index: Any, softcap: float | None, exact: bool
) -> tuple[Array, Array]:
    """``sum(weights * nll)`` and ``sum(weights)``."""
    numerator = seqloss.sequence_loss(
        logits, targets, weights, ignore_index=ignore_index, softcap=softcap, exact=exact, reduction="sum"
    )
    call = Call("logits", logits)
    more = NOTHING_BESIDE.counting(labels_out(ignore_index), None, None)
    given = arguments.sequence(call, targets, weights, False, labels_are_classes=True, more=more)
    values, active, _ = given.token_weights()
    backend = given.backend
    if values is None:
        losses = backend.min(given.logits, axis=(-1,))
        values = backend.ones_like(losses, dtype=given.dtype)
    if active is not None:
        values = backend.where(active, values, 0.0)
    return numerator, backend.quotient(backend.wide_sum(values, None, axis=(0, 1)), 1)


def add(parts: list[Any], number: Array) -> None:
    """Add a number to a sum of one variable, or of two, of which the second keeps what rounding cuts off."""
    total, *rest = parts
    number = keras.ops.cast(number, total.dtype)
    if not rest:
        total.assign(total + number)
        return
    before = keras.ops.convert_to_tensor(total)
    after = before + number
    ours = after - before
    lost = (before - (after - ours)) + (number - ours)
    total.assign(after)
    rest[0].assign(rest[0] + lost)


def total(parts: list[Any]) -> Array:
    total, *rest = (keras.ops.convert_to_tensor(part) for part in parts)
    return total + rest[0] if rest else total
