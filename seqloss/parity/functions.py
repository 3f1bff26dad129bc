"""The functions that can be compared, each with its inputs made from the batch, its call and its reference.

The references are those of ``seqloss.testing.families``: the formulas in wide floats, without a line of the library.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from seqloss.parity import inputs

Array = Any
Arrays = Mapping[str, Array]

DEFAULT = "sequence_loss"


class Function(NamedTuple):
    """A function of named arrays.

    ``call(backend, **arrays)`` returns the value, ``reference(**arrays)`` an ``Expected`` of ``seqloss.testing``.
    """

    inputs: Callable[[Any], dict[str, Array]]
    call: Callable[..., Any]
    reference: Callable[..., Any]
    wrt: tuple[str, ...]
    """The arrays to differentiate."""


def _named(name: str) -> Callable[..., Any]:
    """A call of a public function that takes the arrays under their own names."""

    def call(backend: Any, **arrays: Array) -> Any:
        import seqloss

        return getattr(seqloss, name)(**arrays)

    return call


def _sampled(name: str) -> Callable[..., Any]:
    def call(backend: Any, sampled: Array, of_true: Array, of_sampled: Array, **arrays: Array) -> Any:
        import seqloss

        values = (sampled, of_true, of_sampled)
        counts = {"num_sampled": inputs.CANDIDATES, "num_classes": 256, "sampled_values": values}
        return getattr(seqloss, name)(**arrays, **counts)

    return call


def _lists(name: str) -> Callable[..., Any]:
    def call(backend: Any, logits: Array, targets: Array, weights: Array) -> Any:
        from seqloss import legacy

        return getattr(legacy, name)(*(inputs.unstacked(backend, x) for x in (logits, targets, weights)))

    return call


def _reference(name: str) -> Callable[..., Any]:
    """A reference by name, so that listing the functions imports no NumPy."""

    def reference(**arrays: Array) -> Any:
        from seqloss.parity import references

        return getattr(references, name)(**arrays)

    return reference


_CLASSES, _WEIGHTED = ("labels", "logits"), ("logits", "weights")
_PARTS = ("inputs", "weights", "biases")

FUNCTIONS: dict[str, Function] = {
    name: Function(make, call(name), _reference(reference), wrt)
    for name, make, call, reference, wrt in (
        ("sparse_softmax_cross_entropy_with_logits", inputs.tokens, _named, "sparse", ("logits",)),
        ("softmax_cross_entropy_with_logits", inputs.soft, _named, "soft", _CLASSES),
        ("sigmoid_cross_entropy_with_logits", inputs.binary, _named, "binary", _CLASSES),
        ("weighted_cross_entropy_with_logits", inputs.favoured, _named, "binary", (*_CLASSES, "pos_weight")),
        ("compute_weighted_loss", inputs.losses, _named, "weighted_losses", ("losses", "weights")),
        ("softmax_cross_entropy", inputs.masked_one_hot, _named, "weighted_soft", _WEIGHTED),
        ("sparse_softmax_cross_entropy", inputs.masked, _named, "weighted_sparse", _WEIGHTED),
        ("sigmoid_cross_entropy", inputs.masked_classes, _named, "weighted_binary", _WEIGHTED),
        ("sequence_loss_by_example", inputs.steps, _lists, "by_example", _WEIGHTED),
        ("legacy.sequence_loss", inputs.steps, lambda _: _lists("sequence_loss"), "mean_by_example", _WEIGHTED),
        ("sampled_softmax_loss", inputs.sampled, _sampled, "sampled_softmax", _PARTS),
        ("nce_loss", inputs.sampled, _sampled, "nce", _PARTS),
    )
}
"""All but the default, by the name under which each is reached from ``seqloss``."""

NAMES = (DEFAULT, *FUNCTIONS)
