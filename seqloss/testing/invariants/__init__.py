"""What every right sequence loss has in common, each as a function that takes any callable.

A loss under test is ``loss(logits, targets, weights) -> (value, dlogits)`` in NumPy terms: logits [batch, time,
classes], integer targets and weights [batch, time]; the value is the weighted mean over all tokens,
``sum(weights * nll) / sum(weights)``, in nats, and ``dlogits`` its derivative. Whatever framework computes it is the
caller's affair: wrap it so that arrays go in and come out as NumPy arrays.

An :class:`Invariant` is called as ``invariant(loss, seed)`` with a seed or a ``numpy.random.Generator``. It returns
nothing, or raises :class:`InvariantViolation` with what was expected, what came, and the arrays. Each looks at one
thing and is lenient about the rest, so that the names of those which fail say what is wrong. None needs more than
NumPy.

Gradients from above, compiled forms and second derivatives are nothing that such a callable has: a :class:`Subject` has
them. An invariant that needs what the loss has not raises :class:`NotApplicable`.
"""

from seqloss.testing.invariants.derivatives import compiled_is_eager, double_backward, upstream_gradients
from seqloss.testing.invariants.invariant import Invariant
from seqloss.testing.invariants.masks import empty, label_policy, padding, unsafe_masks
from seqloss.testing.invariants.subject import (
    Answer,
    Batch,
    InvariantViolation,
    Loss,
    NotApplicable,
    Seed,
    Subject,
)
from seqloss.testing.invariants.symmetries import arguments_unwritten, permutation, shift, split_batches, weight_scaling
from seqloss.testing.invariants.values import (
    confident_tokens,
    count_of_1001,
    count_of_70000,
    gradient_rows,
    gradient_sign,
    many_classes,
    non_negative,
    one_hot,
)

INVARIANTS: dict[str, Invariant] = {
    invariant.name: invariant
    for invariant in (
        padding,
        unsafe_masks,
        empty,
        label_policy,
        split_batches,
        permutation,
        shift,
        weight_scaling,
        arguments_unwritten,
        one_hot,
        many_classes,
        non_negative,
        gradient_rows,
        gradient_sign,
        confident_tokens,
        count_of_1001,
        count_of_70000,
        upstream_gradients,
        compiled_is_eager,
        double_backward,
    )
}
"""Every invariant by its name."""

__all__ = [
    "INVARIANTS",
    "Answer",
    "Batch",
    "Invariant",
    "InvariantViolation",
    "Loss",
    "NotApplicable",
    "Seed",
    "Subject",
    "arguments_unwritten",
    "compiled_is_eager",
    "confident_tokens",
    "count_of_1001",
    "count_of_70000",
    "double_backward",
    "empty",
    "gradient_rows",
    "gradient_sign",
    "label_policy",
    "many_classes",
    "non_negative",
    "one_hot",
    "padding",
    "permutation",
    "shift",
    "split_batches",
    "unsafe_masks",
    "upstream_gradients",
    "weight_scaling",
]
