"""The functions that can be compared: each is a row of ``seqloss.testing.families``, on arrays made from the batch.

Their calls and references are those of that table. It is imported when a function is computed, so that the help of the
command is instant and needs no NumPy.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from seqloss.parity import inputs

Array = Any

DEFAULT = "sequence_loss"


class Function(NamedTuple):
    """A function of named arrays. What it takes as a list is one array here, with an entry for each timestep."""

    row: str
    """The row of the families that calls it with its usual options."""
    inputs: Callable[[Any], dict[str, Array]]
    sizes: Mapping[str, int] = {}
    """What the call is told beside the arrays."""
    explicit: Callable[..., dict[str, Array]] | None = None
    """Its gradients by formulas, which NumPy has too."""

    @property
    def family(self) -> Any:
        from seqloss.testing.families import FAMILIES

        return next(row for row in FAMILIES if row.name == self.row)

    @property
    def wrt(self) -> list[str]:
        """The arrays to differentiate, if they hold floats here: one-hot labels may be integers."""
        family = self.family
        return list(dict.fromkeys(family.arguments[place] for place in family.wrt))

    def call(self, backend: Any, **arrays: Array) -> Array:
        """The value, on arrays of a backend."""
        return self.family.call(*self._passed(arrays, lambda x: inputs.unstacked(backend, x)), **self.sizes)

    def reference(self, **arrays: Array) -> tuple[Any, dict[str, tuple[Array, Array]]]:
        """The ``Expected`` of the families on arrays of NumPy, and of it each gradient with its scale, by name."""
        import numpy as np

        expected = self.family.expected(*self._passed(arrays, list))
        steps = len(expected.gradients) // len(self.wrt)
        found = {}
        for place, name in enumerate(self.wrt):
            own = slice(place * steps, (place + 1) * steps)
            gradient, scale = (
                np.array(x[own], np.float64).reshape(arrays[name].shape) for x in (expected.gradients, expected.scales)
            )
            found[name] = gradient, scale
        return expected, found

    def _passed(self, arrays: Mapping[str, Array], unstacked: Callable[[Array], list[Array]]) -> list[Array]:
        """The arrays as the call takes them, those of a list one after the other."""
        names = self.family.arguments
        parts = [unstacked(arrays[name]) if names.count(name) > 1 else [arrays[name]] for name in dict.fromkeys(names)]
        return [part for each in parts for part in each]


def _linear_gradients(**arrays: Array) -> dict[str, Array]:
    from seqloss.testing.families import linear

    return linear.tied_gradients(**arrays)


_SAMPLED = {"num_sampled": inputs.CANDIDATES, "num_classes": 256}

FUNCTIONS: dict[str, Function] = {
    "sparse_softmax_cross_entropy_with_logits": Function("sparse_softmax_with_logits-batch_time", inputs.tokens),
    "softmax_cross_entropy_with_logits": Function("softmax_with_logits-probabilities", inputs.soft),
    "sigmoid_cross_entropy_with_logits": Function("sigmoid_with_logits", inputs.binary),
    "weighted_cross_entropy_with_logits": Function("weighted_with_logits-of_classes", inputs.favoured),
    "compute_weighted_loss": Function("compute_weighted_loss-by_nonzero", inputs.losses),
    "softmax_cross_entropy": Function("softmax_cross_entropy-by_nonzero", inputs.masked_one_hot),
    "sparse_softmax_cross_entropy": Function("sparse_softmax_cross_entropy-by_nonzero", inputs.masked),
    "sigmoid_cross_entropy": Function("sigmoid_cross_entropy-by_nonzero", inputs.masked_classes),
    "sequence_loss_by_example": Function("sequence_loss_by_example-mean", inputs.steps),
    "legacy.sequence_loss": Function("legacy_sequence_loss-mean", inputs.steps),
    "linear_sequence_loss": Function(
        "linear_sequence_loss-tied_smoothed", inputs.linear, {"chunk": inputs.CHUNK}, _linear_gradients
    ),
    "sampled_softmax_loss": Function("sampled_softmax_loss-hits", inputs.sampled, _SAMPLED),
    "nce_loss": Function("nce_loss-plain", inputs.sampled, _SAMPLED),
}
"""All but the default, by the name under which each is reached from ``seqloss``."""

NAMES = (DEFAULT, *FUNCTIONS)

SHORT = {"linear": "linear_sequence_loss"}
"""Other names, for those who type."""

BY_FORMULA = " by formula"
"""What stands behind the name of a gradient that the framework has not made."""
