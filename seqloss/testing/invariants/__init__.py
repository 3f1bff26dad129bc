"""What every right sequence loss has in common, each as a function that takes any callable.

A loss under test is ``loss(logits, targets, weights) -> (value, dlogits)`` in NumPy terms: logits [batch, time,
classes], integer targets and weights [batch, time]; the value is the weighted mean over all tokens,
``sum(weights * nll) / sum(weights)``, in nats, and ``dlogits`` its derivative. Whatever framework computes it is the
caller's affair: wrap it so that arrays go in and come out as NumPy arrays.

An invariant is called as ``invariant(loss, seed)`` with a seed or a ``numpy.random.Generator``. It returns nothing, or
raises :class:`InvariantViolation` with what was expected, what came, and the arrays. Each looks at one thing and is
lenient about the rest, so that the names of those which fail say what is wrong. None needs more than NumPy.
"""

from collections.abc import Callable

from seqloss.testing.invariants.masks import empty, label_policy, padding, unsafe_masks
from seqloss.testing.invariants.probe import InvariantViolation, Loss, Seed
from seqloss.testing.invariants.symmetries import permutation, shift, split_batches, weight_scaling
from seqloss.testing.invariants.values import (
    confident_tokens,
    count_of_1001,
    count_of_70000,
    gradient_rows,
    gradient_sign,
    non_negative,
    one_hot,
)

INVARIANTS: dict[str, Callable[[Loss, Seed], None]] = {
    function.__name__: function
    for function in (
        padding,
        unsafe_masks,
        empty,
        label_policy,
        split_batches,
        permutation,
        shift,
        weight_scaling,
        one_hot,
        non_negative,
        gradient_rows,
        gradient_sign,
        confident_tokens,
        count_of_1001,
        count_of_70000,
    )
}
"""The name of every invariant, and its function."""

__all__ = [
    "INVARIANTS",
    "InvariantViolation",
    "Loss",
    "Seed",
    "confident_tokens",
    "count_of_1001",
    "count_of_70000",
    "empty",
    "gradient_rows",
    "gradient_sign",
    "label_policy",
    "non_negative",
    "one_hot",
    "padding",
    "permutation",
    "shift",
    "split_batches",
    "unsafe_masks",
    "weight_scaling",
]
