"""The built-in loss as a whole: the kernel and the reduction, forward and backward.

``plain`` leaves differentiation to the framework. ``forward`` and ``pullback`` compute the same without it: they serve
``sequence_loss_and_grad``, and backends in which one operation is cheaper than a graph of twenty.
"""

from typing import Any, NamedTuple

from seqloss.core import reduction
from seqloss.core.arguments import Sequence
from seqloss.core.protocol import Array, TokenStatistics


class WeightedLoss(NamedTuple):
    """The loss of a checked call as a function of its logits and the values of its weights."""

    call: Sequence
    plan: reduction.Plan
    wrt_weights: bool
    """Whether the pullback computes the gradient of the weights."""

    def plain(self, logits: Array, values: Array) -> Array:
        call = self.call
        nll = call.backend.differentiable_token_nll(logits, call.targets, call.skippable)
        weights = reduction.Weights(values, call.weights.active)
        return reduction.forward(call.backend, self.plan, self._countable(nll), weights).loss

    def forward(self, logits: Array, values: Array) -> tuple[Array, tuple[Any, ...]]:
        """The loss, and what its pullback needs beside the arguments: numbers per token."""
        call = self.call
        statistics = call.backend.token_nll(logits, call.targets, call.skippable)
        weights = reduction.Weights(values, call.weights.active)
        losses = self._countable(statistics.nll)
        reduced = reduction.forward(call.backend, self.plan, losses, weights)
        return reduced.loss, (call.targets, call.skippable, *statistics, losses, call.weights.active, *reduced)

    def pullback(
        self, arrays: tuple[Array, ...], residuals: tuple[Any, ...], cotangent: Array
    ) -> tuple[Array, Array | None]:
        """The gradients of the logits (in their dtype) and of the values of the weights."""
        logits, values = arrays
        targets, skippable, nll, shift, total, losses, active, loss, safe, empty = residuals
        backend = self.call.backend
        to_nll, to_values = reduction.pullback(
            backend,
            self.plan,
            losses,
            reduction.Weights(values, active),
            reduction.Reduced(loss, safe, empty),
            cotangent,
            self.wrt_weights,
        )
        statistics = TokenStatistics(nll, shift, total)
        return backend.token_nll_pullback(to_nll, logits, targets, skippable, statistics), to_values

    def _countable(self, nll: Array) -> Array:
        # With skippable given, the kernel has put 0 where a token does not count.
        if self.call.skippable is not None:
            return nll
        return reduction.countable(self.call.backend, nll, self.call.weights.active)
