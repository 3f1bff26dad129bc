"""The built-in loss as a whole: the kernel and the reduction, forward and backward.

``plain`` leaves differentiation to the framework. ``forward`` and ``pullback`` compute the same without it: they serve
``sequence_loss_and_grad``, and backends in which one operation is cheaper than a graph of twenty.
"""

from typing import Any, NamedTuple

from seqloss.core import reduction
from seqloss.core.arguments import Sequence
from seqloss.core.protocol import Array, Backend, TokenStatistics


def arrays_of(call: Sequence) -> tuple[Any, ...]:
    """The arguments of the functions below."""
    return call.logits, call.weights.values, call.targets, call.weights.active


class BuiltinLoss(NamedTuple):
    """The loss as a function of ``arrays_of(call)``. It holds no array, so that it keeps none alive."""

    backend: Backend
    plan: reduction.Plan
    skips: bool
    """Whether the kernel may skip inactive tokens, because nobody asks for the gradient of the weights."""
    wrt_weights: bool
    """Whether the pullback computes that gradient."""

    def plain(self, logits: Array, values: Array, targets: Array, active: Array | None) -> Array:
        nll = self.backend.differentiable_token_nll(logits, targets, active if self.skips else None)
        losses = self._countable(nll, active)
        return reduction.forward(self.backend, self.plan, losses, reduction.Weights(values, active)).loss

    def forward(
        self, logits: Array, values: Array, targets: Array, active: Array | None
    ) -> tuple[Array, tuple[Any, ...]]:
        """The loss, and what its pullback needs beside the arguments: numbers per token."""
        statistics = self.backend.token_nll(logits, targets, active if self.skips else None)
        losses = self._countable(statistics.nll, active)
        reduced = reduction.forward(self.backend, self.plan, losses, reduction.Weights(values, active))
        return reduced.loss, (*statistics, losses, *reduced)

    def pullback(
        self, arrays: tuple[Any, ...], residuals: tuple[Any, ...], cotangent: Array
    ) -> tuple[Array, Array | None, None, None]:
        """The gradients of the logits (in their dtype) and of the values of the weights."""
        logits, values, targets, active = arrays
        nll, shift, total, losses, loss, safe, empty = residuals
        weights, reduced = reduction.Weights(values, active), reduction.Reduced(loss, safe, empty)
        to_nll, to_values = reduction.pullback(
            self.backend, self.plan, losses, weights, reduced, cotangent, self.wrt_weights
        )
        statistics = TokenStatistics(nll, shift, total)
        skippable = active if self.skips else None
        return self.backend.token_nll_pullback(to_nll, logits, targets, skippable, statistics), to_values, None, None

    def _countable(self, nll: Array, active: Array | None) -> Array:
        # A kernel that skips has put 0 where a token does not count.
        return nll if self.skips else reduction.countable(self.backend, nll, active)
