"""What every right sequence loss has in common, each as a function that takes any callable.

A loss under test is ``loss(logits, targets, weights) -> (value, dlogits)`` in NumPy terms: logits [batch, time,
classes], integer targets and weights [batch, time]; the value is the weighted mean over all tokens,
``sum(weights * nll) / sum(weights)``, in nats, and ``dlogits`` its derivative. Whatever framework computes it is the
caller's affair: wrap it so that arrays go in and come out as NumPy arrays. A :class:`Subject` may have another loss of
a token, its objective.

An :class:`Invariant` is called as ``invariant(loss, seed)`` with a seed or a ``numpy.random.Generator``. It returns
nothing, or raises :class:`InvariantViolation` with what was expected, what came, and the arrays. Each looks at one
thing and is lenient about the rest, so that the names of those which fail say what is wrong. None needs more than
NumPy.

Gradients from above, compiled forms and second derivatives are nothing that such a callable has: a :class:`Subject` has
them. An invariant that needs what the loss has not, or that is no law of its objective, raises
:class:`NotApplicable`.
"""

from seqloss.testing.invariants.derivatives import (
    double_backward,
    repeated_backward,
    upstream_gradients,
    weight_gradients,
    zero_upstream,
)
from seqloss.testing.invariants.extremes import far_from_0, hopeless_tokens, impossible_classes
from seqloss.testing.invariants.inputs import (
    bool_weights,
    double_precision,
    every_class,
    label_dtypes,
    memory_layouts,
    negative_weights,
    sizes_of_one,
)
from seqloss.testing.invariants.invariant import Invariant
from seqloss.testing.invariants.linear import LINEAR_INVARIANTS
from seqloss.testing.invariants.masks import empty, label_policy, padding, unsafe_masks
from seqloss.testing.invariants.subject import (
    Answer,
    Batch,
    InvariantViolation,
    Layer,
    LayerAnswer,
    Linear,
    Loss,
    NotApplicable,
    Seed,
    Subject,
)
from seqloss.testing.invariants.surroundings import (
    compiled_is_eager,
    mapped,
    other_settings,
    repeated_calls,
    without_gradients,
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
        negative_weights,
        bool_weights,
        arguments_unwritten,
        repeated_calls,
        one_hot,
        sizes_of_one,
        every_class,
        many_classes,
        label_dtypes,
        memory_layouts,
        non_negative,
        gradient_rows,
        gradient_sign,
        confident_tokens,
        hopeless_tokens,
        impossible_classes,
        far_from_0,
        double_precision,
        count_of_1001,
        count_of_70000,
        upstream_gradients,
        zero_upstream,
        weight_gradients,
        repeated_backward,
        double_backward,
        compiled_is_eager,
        mapped,
        without_gradients,
        other_settings,
    )
}
"""Every invariant of a loss of logits by its name."""

EVERY: dict[str, Invariant] = {**INVARIANTS, **LINEAR_INVARIANTS}
"""With those of a loss that makes the logits itself."""

__all__ = [
    "EVERY",
    "INVARIANTS",
    "LINEAR_INVARIANTS",
    "Answer",
    "Batch",
    "Invariant",
    "InvariantViolation",
    "Layer",
    "LayerAnswer",
    "Linear",
    "Loss",
    "NotApplicable",
    "Seed",
    "Subject",
    "arguments_unwritten",
    "bool_weights",
    "compiled_is_eager",
    "confident_tokens",
    "count_of_1001",
    "count_of_70000",
    "double_backward",
    "double_precision",
    "empty",
    "every_class",
    "far_from_0",
    "gradient_rows",
    "gradient_sign",
    "hopeless_tokens",
    "impossible_classes",
    "label_dtypes",
    "label_policy",
    "many_classes",
    "mapped",
    "memory_layouts",
    "negative_weights",
    "non_negative",
    "one_hot",
    "other_settings",
    "padding",
    "permutation",
    "repeated_backward",
    "repeated_calls",
    "shift",
    "sizes_of_one",
    "split_batches",
    "unsafe_masks",
    "upstream_gradients",
    "weight_gradients",
    "weight_scaling",
    "without_gradients",
    "zero_upstream",
]
