"""The loss of each token as an operation."""

from typing import Any, NamedTuple

from seqloss.core.protocol import Array, Arrays, Backend
from seqloss.losses import classes
from seqloss.losses.kernels import rounded
from seqloss.losses.objective import Given, TokenLoss


class TokenLossOp(NamedTuple):
    """The loss of each token of logits, targets, active, class weights and prior."""

    tokens: TokenLoss
    exclude: tuple[int, ...]
    dtype: str
    """That of the losses."""
    exact: bool

    @property
    def backend(self) -> Backend:
        return self.tokens.backend

    @property
    def opaque(self) -> bool:
        return self.exact

    def on(self, backend: Backend) -> "TokenLossOp":
        return TokenLossOp(self.tokens.on(backend), self.exclude, self.dtype, self.exact)

    def composed(self, *arrays: Array | None) -> tuple[Array, ...]:
        return (self.tokens.composed(self._given(*arrays)),)

    def forward(self, *arrays: Array | None) -> tuple[tuple[Array], Any]:
        losses, residuals = self.tokens.forward(self._given(*arrays))
        return (rounded(self.backend, losses) if self.exact else losses,), residuals

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array | None, ...]:
        to_losses = self.backend.astype(cotangents[0], self.tokens.kernel.spec.dtype)
        pulled = self.tokens.pullback(self._given(*arrays), residuals, to_losses)
        return pulled.logits, *(None for _ in arrays[1:])

    def _given(
        self,
        logits: Array,
        targets: Array,
        active: Array | None,
        class_weights: Array | None,
        prior: Array | None,
    ) -> Given:
        wide = self.tokens.kernel.spec.dtype
        class_weights, prior = classes.weights_and_prior(
            self.backend, logits, class_weights, prior, self.exclude, self.dtype, wide
        )
        units = None
        if class_weights is not None:
            units = classes.of_labels(self.backend, class_weights, logits, targets)
        return Given(logits, targets, active, class_weights, prior, units)
