"""Operations of the kit's own, on arrays of any backend: see :class:`seqloss.core.protocol.LossOp`."""

from typing import Any, NamedTuple

from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array, Arrays, Backend


class Product(NamedTuple):
    """x * y and x + y of two arrays, beside one that is not there and labels, with a pullback the long way round.

    ``forward`` and ``composed`` hide from the framework what the derivative is, so that it must ask ``pullback``; the
    residuals are nested, and one of them is None.
    """

    backend: Backend
    opaque: bool

    def on(self, backend: Any) -> "Product":
        return Product(backend, self.opaque)

    def composed(self, x: Array, y: Array, absent: None, labels: Array) -> tuple[Array, ...]:
        return self.backend.differentiable(self, (x, y, absent, labels))

    def forward(self, x: Array, y: Array, absent: None, labels: Array) -> tuple[tuple[Array, ...], Any]:
        fixed = self.backend.stop_gradient
        return (fixed(x * y), fixed(x + y)), (fixed(x + y), (None, (y,)))

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Any, ...]:
        total, (_, (y,)) = residuals
        one, other = cotangents
        zero = arrays[0] * 0.0
        one, other = (zero if g is None else g for g in (one, other))
        return one * y + other, one * (total - y) + other, None, None


class ExactTokens(NamedTuple):
    """Statistics of tokens that are computed in float64 and rounded to float32 once, as the exact mode does it.

    With ``whole`` each statistic comes as three float32 numbers whose sum is the float64 one: an operation must not let
    float64 out, and the kit wants to see the bits.
    """

    backend: Backend
    lse: bool
    unl: bool
    softcap: float | None
    soft: bool = False
    """Whether the second array are soft labels."""
    whole: bool = False

    @property
    def opaque(self) -> bool:
        return True

    @property
    def spec(self) -> Spec:
        return Spec("float64", self.lse, self.unl, self.softcap)

    def on(self, backend: Any) -> "ExactTokens":
        return ExactTokens(backend, *self[1:])

    def composed(self, *arrays: Any) -> tuple[Array, ...]:
        return self.backend.differentiable(self, arrays)

    def forward(self, logits: Array, labels: Array, prior: Array | None) -> tuple[tuple[Array, ...], Any]:
        wide = self._wide(prior)
        if self.soft:
            statistics = self.backend.label_statistics(logits, labels, None, wide, self.spec)
        else:
            statistics = self.backend.token_statistics(logits, labels, None, wide, self.spec)
        outputs = (out for x in statistics[:3] if x is not None for out in self._out(x))
        return tuple(outputs), tuple(statistics)

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Any, ...]:
        logits, labels, prior = arrays
        rest = iter(cotangents[:: 3 if self.whole else 1])
        wanted = (True, self.lse, self.unl)
        upstream = Cotangents(*(self._wide(next(rest)) if is_wanted else None for is_wanted in wanted))
        statistics, wide = Statistics(*residuals), self._wide(prior)
        if not self.soft:
            kernel = self.backend.token_pullback
            return kernel(upstream, logits, labels, None, wide, statistics, self.spec), None, None
        mass = self.backend.sum(labels, axis=(-1,), dtype="float64")
        pulled = self.backend.label_pullback(upstream, logits, labels, mass, None, wide, statistics, self.spec, True)
        return *pulled, None

    def _wide(self, x: Array | None) -> Any:
        return None if x is None else self.backend.astype(x, "float64")

    def _out(self, x: Array) -> list[Array]:
        parts = []
        for _ in range(3 if self.whole else 1):
            parts.append(self.backend.astype(x, "float32"))
            x = x - self.backend.astype(parts[-1], "float64")
        return parts
