"""Which tokens a model gets right: the label has the highest logit, and no class before it has the same."""

from typing import Any, NamedTuple

from seqloss.core.protocol import Array, Arrays, Backend


class IsRightOp(NamedTuple):
    """Whether each of logits [batch, time, classes] and targets is right, as bools."""

    backend: Backend

    @property
    def opaque(self) -> bool:
        return False

    def on(self, backend: Backend) -> "IsRightOp":
        return IsRightOp(backend)

    def composed(self, logits: Array, targets: Array) -> tuple[Array]:
        return (self.backend.is_highest(logits, targets),)

    def forward(self, logits: Array, targets: Array) -> tuple[tuple[Array], tuple[()]]:
        return self.composed(logits, targets), ()

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[None, None]:
        return None, None


def is_right(backend: Backend, logits: Array, targets: Array) -> Array:
    """Whether each token is right; the logits have no derivative."""
    return backend.run(IsRightOp(backend), (logits, targets))[0]
