"""The kernels of a backend as operations: see :class:`seqloss.core.protocol.LossOp`.

Their outputs are the statistics that were asked for, as in ``TokenKernel.statistics``.
"""

from typing import Any, NamedTuple

from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import SMALLEST_ACTIVE, Array, Arrays, Backend


class TokenKernel(NamedTuple):
    """The statistics of tokens from logits, targets, active and prior."""

    backend: Backend
    spec: Spec

    @property
    def opaque(self) -> bool:
        return False

    def on(self, backend: Backend) -> "TokenKernel":
        return TokenKernel(backend, self.spec)

    def statistics(self, outputs: Arrays) -> Statistics:
        """The outputs by their names."""
        return _named(self.spec, outputs)

    def composed(self, logits: Array, targets: Array, active: Array | None, prior: Array | None) -> tuple[Array, ...]:
        return self.backend.differentiable(self, (logits, targets, active, prior))

    def forward(
        self, logits: Array, targets: Array, active: Array | None, prior: Array | None
    ) -> tuple[tuple[Array, ...], Statistics]:
        statistics = self.backend.token_statistics(logits, targets, active, prior, self.spec)
        return _outputs(statistics), statistics

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays) -> tuple[Array, None, None, None]:
        logits, targets, active, prior = arrays
        upstream, statistics = _cotangents(self.spec, cotangents), Statistics(*residuals)
        return (
            self.backend.token_pullback(upstream, logits, targets, active, prior, statistics, self.spec),
            None,
            None,
            None,
        )

    def at_once(
        self,
        arrays: Arrays,
        nll: Array,
        lse_square: Array | None = None,
        unl: Array | None = None,
        into: Array | None = None,
    ) -> tuple[Statistics, Array]:
        """The statistics, and d/dlogits of ``sum(a nll + k lse**2 + c unl)`` for these three, on NumPy alone."""
        logits, targets, active, prior = arrays
        backend: Any = self.backend
        cotangents = Cotangents(nll, None, unl)
        found: tuple[Statistics, Array] = backend.token_statistics_and_pullback(
            cotangents, logits, targets, active, prior, self.spec, lse_square, into
        )
        return found


class LabelKernel(NamedTuple):
    """The statistics of tokens from logits, soft labels, their mass, active and prior.

    Where the mass is NaN so is nll.
    """

    backend: Backend
    spec: Spec
    wrt_labels: bool
    """Whether the pullback computes the gradient of the labels."""

    @property
    def opaque(self) -> bool:
        return False

    def on(self, backend: Backend) -> "LabelKernel":
        return LabelKernel(backend, self.spec, self.wrt_labels)

    def statistics(self, outputs: Arrays) -> Statistics:
        """The outputs by their names."""
        return _named(self.spec, outputs)

    def composed(
        self, logits: Array, labels: Array, mass: Array, active: Array | None, prior: Array | None
    ) -> tuple[Array, ...]:
        return self.backend.differentiable(self, (logits, labels, mass, active, prior))

    def forward(
        self, logits: Array, labels: Array, mass: Array, active: Array | None, prior: Array | None
    ) -> tuple[tuple[Array, ...], Statistics]:
        found = self.backend.label_statistics(logits, labels, active, prior, self.spec)
        # A token without mass has no loss; a token that is left out has the loss 0, whatever its mass.
        is_known = self.backend.equal(mass, mass)
        nll = self.backend.nan_unless(is_known if active is None else is_known | ~active, found.nll)
        statistics = Statistics(nll, found.lse, found.unl, found.mass, found.saved)
        return _outputs(statistics), statistics

    def pullback(
        self, arrays: Arrays, residuals: Any, cotangents: Arrays
    ) -> tuple[Array, Array | None, None, None, None]:
        logits, labels, mass, active, prior = arrays
        upstream, statistics = _cotangents(self.spec, cotangents), Statistics(*residuals)
        to_logits, to_labels = self.backend.label_pullback(
            upstream, logits, labels, mass, active, prior, statistics, self.spec, self.wrt_labels
        )
        return to_logits, to_labels, None, None, None


class SigmoidKernel(NamedTuple):
    """The losses of independent classes from logits, labels and pos_weight."""

    backend: Backend
    wrt_labels: bool
    """Whether the pullback computes the gradients of labels and pos_weight."""

    @property
    def opaque(self) -> bool:
        return False

    def on(self, backend: Backend) -> "SigmoidKernel":
        return SigmoidKernel(backend, self.wrt_labels)

    def composed(self, logits: Array, labels: Array, pos_weight: Array | None) -> tuple[Array, ...]:
        return self.backend.differentiable(self, (logits, labels, pos_weight))

    def forward(self, logits: Array, labels: Array, pos_weight: Array | None) -> tuple[tuple[Array, ...], None]:
        return (self.backend.sigmoid_nll(logits, labels, pos_weight),), None

    def pullback(self, arrays: Arrays, residuals: None, cotangents: Arrays) -> tuple[Array, Array | None, Array | None]:
        logits, labels, pos_weight = arrays
        return self.backend.sigmoid_pullback(cotangents[0], logits, labels, pos_weight, self.wrt_labels)


def _outputs(statistics: Statistics) -> tuple[Array, ...]:
    nll, lse, unl, mass, _ = statistics
    if lse is None and unl is None:
        return (nll,)
    return tuple(x for x in (nll, lse, unl, mass) if x is not None)


def _named(spec: Spec, outputs: Arrays) -> Statistics:
    rest = iter(outputs)
    nll = next(rest)
    lse = next(rest) if spec.lse else None
    unl, mass = (next(rest), next(rest)) if spec.unl else (None, None)
    return Statistics(nll, lse, unl, mass, ())


def _cotangents(spec: Spec, cotangents: Arrays) -> Cotangents:
    """The cotangents of the outputs by name; the mass has no derivative."""
    nll, lse, unl, _, _ = _named(spec, cotangents)
    return Cotangents(nll, lse, unl)


def rounded(backend: Backend, x: Array) -> Array:
    """float64 as float32, rounded once. Subnormal numbers are 0, because some executors flush them and some do not."""
    return backend.astype(backend.where(abs(x) < SMALLEST_ACTIVE, 0.0, x), "float32")
