"""The loss of a token, made of the statistics of a kernel: smoothing, class weights and z-loss.

With a label ``y``, its class weight ``v`` and the statistics of :mod:`seqloss.core.contract` it is ::

    loss = a nll + b lse**2 + c unl - h

with coefficients that have no derivative. For the smoothing ``eps`` with the prior ``p`` of the possible classes, whose
sum is ``m``, and with the class weights ``cw``::

    spread over all     a = v (1 - eps)          b = v z_loss    c = eps sum_j p_j cw_j / m
    over the others     a = 1 - eps - eps f      b = z_loss      c = eps (1 + f)    with f = p_y / (m - p_y)

In the first line the kernel has ``p cw`` as its prior. Where there is nothing to spread over, ``a = v`` and ``c = 0``.
Soft labels come times the class weights, so that ``a`` is without ``v``, which is their sum and has a derivative.
``h`` is what :class:`seqloss.Smoothing` says where the smoothing is centred, and else 0. A label that is not possible
has no part in ``m``.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from seqloss.core import objectives
from seqloss.core.contract import Spec, Statistics
from seqloss.core.protocol import Array, Backend
from seqloss.losses import classes
from seqloss.losses.beside import NOTHING_BESIDE, Beside
from seqloss.losses.kernels import LabelKernel, TokenKernel


class Objective(NamedTuple):
    """The static numbers of the loss of a token."""

    eps: float = 0.0
    off_target: bool = False
    centred: bool = False
    z_loss: float = 0.0
    softcap: float | None = None

    def spec(self, dtype: str) -> Spec:
        """What a kernel has to compute for it."""
        return Spec(dtype, lse=self.z_loss > 0, unl=self.eps > 0, softcap=self.softcap)


PLAIN = Objective()


def objective_of(label_smoothing: Any, class_weights: Any, z_loss: Any, softcap: Any) -> tuple[Objective, Beside]:
    """The options of the loss of a token, checked except for their arrays."""
    are_floats = type(label_smoothing) is type(z_loss) is float
    if are_floats and not label_smoothing and not z_loss and class_weights is None and softcap is None:
        return PLAIN, NOTHING_BESIDE  # as most calls have it
    smoothing = objectives.smoothing(label_smoothing)
    objectives.together(smoothing, class_weights is not None)
    eps, off_target, centred, prior, exclude = smoothing
    penalty, cap = objectives.z_loss(z_loss), objectives.softcap(softcap)
    if eps == 0:
        return Objective(z_loss=penalty, softcap=cap), Beside(class_weights)
    return Objective(eps, off_target, centred, penalty, cap), Beside(class_weights, prior, exclude)


class Given(NamedTuple):
    """The arrays of the loss of a token."""

    logits: Array
    targets: Array
    """Integers, or soft labels that have been multiplied by the class weights."""
    active: Array | None
    """What a kernel may leave out is False. The loss is 0 there."""
    class_weights: Array | None = None
    """[classes], in the dtype of the kernel; so is the prior."""
    prior: Array | None = None
    units: Array | None = None
    """The class weight of each label; None without class weights."""
    mass: Array | None = None
    """What the soft labels of a token add up to. Where it is NaN the token has no loss."""


class Pulled(NamedTuple):
    """Gradients with respect to the arrays of the token loss; those of soft labels are None if not asked for."""

    logits: Array
    labels: Array | None
    units: Array | None


class _Coefficients(NamedTuple):
    """Numbers, arrays [...], or None, which means 1 in the first place and 0 in the others."""

    nll: Any = None
    lse: Any = None
    unl: Any = None
    entropy: Any = None


class TokenLoss(NamedTuple):
    """The loss of each token as a function of :class:`Given`, forward and backward."""

    kernel: TokenKernel | LabelKernel
    objective: Objective

    @property
    def is_soft(self) -> bool:
        return isinstance(self.kernel, LabelKernel)

    @property
    def backend(self) -> Backend:
        return self.kernel.backend

    def on(self, backend: Any) -> "TokenLoss":
        return TokenLoss(self.kernel.on(backend), self.objective)

    def composed(self, given: Given) -> Array:
        """The losses, made of operations that the framework can differentiate."""
        outputs = self.kernel.composed(*self._arrays(given))

        def mass(prior: Array | None) -> Array:
            kernel = self._of_mass()
            constant = Given(self.backend.stop_gradient(given.logits), *given[1:])
            outputs = kernel.composed(*self._arrays_of(constant, prior))
            return self.backend.stop_gradient(kernel.statistics(outputs).mass)

        statistics = self.kernel.statistics(outputs)
        return self._losses(given, statistics, self._coefficients(given, statistics, self._masses(given, mass)))

    def forward(self, given: Given) -> tuple[Array, tuple[Any, ...]]:
        """The losses and residuals."""
        _, statistics = self.kernel.forward(*self._arrays(given))
        if self._is_nll(given):
            return statistics.nll, (statistics, ())

        def mass(prior: Array | None) -> Array:
            _, statistics = self._of_mass().forward(*self._arrays_of(given, prior))
            return statistics.mass

        masses = self._masses(given, mass)
        return self._losses(given, statistics, self._coefficients(given, statistics, masses)), (statistics, masses)

    def pullback(self, given: Given, residuals: Any, to_losses: Array) -> Pulled:
        """The gradients of the sum of the losses, each times its cotangent."""
        statistics, masses = Statistics(*residuals[0]), residuals[1]
        if self._is_nll(given):
            to_logits, to_labels, *_ = self.kernel.pullback(self._arrays(given), statistics, (to_losses,))
            return Pulled(to_logits, to_labels, None)
        spec, (nll, lse_square, unl) = self.kernel.spec, self._cotangents(given, statistics, masses, to_losses)
        cotangents = [nll]
        if spec.lse:
            cotangents.append(2 * lse_square * self._finite_lse(statistics))
        if spec.unl:
            cotangents += [unl, None]
        to_logits, to_labels, *_ = self.kernel.pullback(self._arrays(given), statistics, cotangents)
        to_units = None
        if self.is_soft and spec.lse and given.units is not None:
            to_units = to_losses * (self.objective.z_loss * self._finite_lse(statistics) ** 2)
        return Pulled(to_logits, to_labels, to_units)

    def at_once(self, given: Given, to_losses: Array, into: Array | None = None) -> tuple[Array, Array]:
        """The losses of class ids, and the gradient of the logits, on NumPy: in one pass over them if possible.

        The gradient may be written into an array, which may be the logits.

        How much of a smoothing the label keeps is known only when a row has been read, but nearly always each class of
        the row is possible. If this turns out to be wrong, the pullback is computed again.
        """
        kernel: Any = self.kernel
        if self._is_nll(given):
            arrays = given.logits, given.targets, given.active, None
            statistics, to_logits = kernel.at_once(arrays, to_losses, into=into)
            return statistics.nll, to_logits
        arrays, (_, off_target, centred, _, _) = self._arrays(given), self.objective
        has_sums = given.prior is not None and (off_target or centred)
        if self.objective.eps > 0 and (given.class_weights is not None or has_sums):
            losses, residuals = self.forward(given)
            return losses, self.pullback(given, residuals, to_losses).logits
        ones = self.backend.ones_like(to_losses, dtype=kernel.spec.dtype)
        usual = Statistics(ones, None, None, given.logits.shape[-1] * ones, ())
        expected = self._cotangents(given, usual, (), to_losses)
        if self.objective.eps == 0:  # they depend on no statistic
            statistics, to_logits = kernel.at_once(arrays, *expected, into=into)
            return self._losses(given, statistics, self._coefficients(given, statistics, ())), to_logits
        statistics, to_logits = kernel.at_once(arrays, *expected)
        pairs = zip(expected, self._cotangents(given, statistics, (), to_losses), strict=True)
        if not all(x is y or self.backend.surely_all(self.backend.equal(x, y)) for x, y in pairs):
            del to_logits  # lest there be two of them
            to_logits = self.pullback(given, (statistics, ()), to_losses).logits
        return self._losses(given, statistics, self._coefficients(given, statistics, ())), to_logits

    def _cotangents(
        self, given: Given, statistics: Statistics, masses: tuple[Array, ...], to_losses: Array
    ) -> tuple[Array, Any, Any]:
        """The cotangents of nll, of the square of lse and of unl; None for those that the loss does not have."""
        nll, lse, unl, _ = self._coefficients(given, statistics, masses)
        to_lse_square, to_unl = (None if x is None else to_losses * x for x in (lse, unl))
        return to_losses if nll is None else to_losses * nll, to_lse_square, to_unl

    def _is_nll(self, given: Given) -> bool:
        """Whether the loss is nll and nothing else."""
        return (self.objective is PLAIN or self.objective == PLAIN) and (given.units is None or self.is_soft)

    def _arrays(self, given: Given) -> tuple[Any, ...]:
        """Those of the kernel."""
        prior = given.prior
        if self.objective.eps > 0 and given.class_weights is not None:
            if prior is None:
                prior = given.class_weights
            else:  # selected, because the class weight of an excluded class may be anything
                is_excluded = self.backend.equal(prior, 0.0)
                prior = self.backend.where(is_excluded, 0.0, prior * given.class_weights)
        return self._arrays_of(given, prior)

    def _arrays_of(self, given: Given, prior: Array | None) -> tuple[Any, ...]:
        """Those of a kernel with this prior."""
        mass = (given.mass,) if self.is_soft else ()
        return given.logits, given.targets, *mass, given.active, prior

    def _of_mass(self) -> TokenKernel | LabelKernel:
        """The kernel, used for the masses of other priors. A compiler drops the other results."""
        spec = Spec(self.kernel.spec.dtype, unl=True, softcap=self.objective.softcap)
        return LabelKernel(self.backend, spec, False) if self.is_soft else TokenKernel(self.backend, spec)

    def _masses(self, given: Given, mass: Callable[[Array | None], Array]) -> tuple[Array, ...]:
        """The other sum over the possible classes, if any: of the prior, or of its logarithm for the entropy."""
        if self.objective.eps > 0 and given.class_weights is not None:
            return (mass(given.prior),)
        if self.objective.centred and given.prior is not None:
            return (mass(self._times_log(given.prior)),)
        return ()

    def _coefficients(self, given: Given, statistics: Statistics, masses: tuple[Array, ...]) -> _Coefficients:
        objective, units = self.objective, None if given.units is None else self._counted(given, given.units)
        penalty = None
        if objective.z_loss > 0:
            penalty = objective.z_loss if units is None else units * objective.z_loss
        if objective.eps == 0:
            return _Coefficients(None if self.is_soft else units, penalty)
        if objective.off_target or objective.centred:
            kept, spread, entropy = self._of_others(given, statistics, masses)
            return _Coefficients(kept, penalty, spread, entropy)
        mass = self._constant(given, masses[0] if masses else statistics.mass)
        is_empty = self.backend.equal(mass, 0.0)
        ones = self._ones(mass)
        kept = self.backend.where(is_empty, ones, 1 - objective.eps)
        if units is None:
            return _Coefficients(kept, penalty, objective.eps * ones)
        weighted = self._constant(given, statistics.mass) / self.backend.where(is_empty, 1.0, mass)
        return _Coefficients(kept if self.is_soft else kept * units, penalty, objective.eps * weighted)

    def _of_others(
        self, given: Given, statistics: Statistics, masses: tuple[Array, ...]
    ) -> tuple[Array, Array, Array | None]:
        """a, c and h where nothing is spread to the label, or the entropy is subtracted.

        There are no class weights then.
        """
        backend, eps = self.backend, self.objective.eps
        mass, own = self._constant(given, statistics.mass), None
        ones = self._ones(mass)
        if self.objective.off_target:
            own = ones if given.prior is None else self._of_labels(given.prior, given)
            # The prior of a label that is not possible is not part of the mass.
            own = backend.where(backend.isfinite(backend.stop_gradient(statistics.nll)), own, 0.0)
            mass = mass - own
        is_empty = backend.equal(mass, 0.0)
        whole = backend.where(is_empty, 1.0, mass)
        entropy = None
        if self.objective.centred:
            if given.prior is None:
                mean_log = -backend.log(whole)
            else:
                logs = self._constant(given, masses[0])
                logs = logs if own is None else logs - self._times_log(own)
                mean_log = logs / whole - backend.log(whole)
            entropy = -(mean_log + math.log(eps)) * eps - (1 - eps) * math.log(1 - eps)
            entropy = backend.where(is_empty, 0.0, entropy)
        kept = 1 - eps if own is None else (1 - eps) - eps * own / whole
        spread = eps * ones if own is None else eps * (1 + own / whole)
        return backend.where(is_empty, ones, kept), backend.where(is_empty, 0.0, spread), entropy

    def _losses(self, given: Given, statistics: Statistics, coefficients: _Coefficients) -> Array:
        backend, losses = self.backend, statistics.nll
        if coefficients.nll is not None:
            if given.units is not None and not self.is_soft:  # 0 times infinity is 0
                losses = backend.where(backend.equal(given.units, 0.0), 0.0, losses)
            losses = losses * coefficients.nll
        if coefficients.lse is not None:
            lse = self._finite_lse(statistics)
            losses = losses + coefficients.lse * (lse * lse)
        if coefficients.unl is not None:
            losses = losses + coefficients.unl * statistics.unl
        if coefficients.entropy is not None:
            losses = losses - coefficients.entropy
            losses = losses if given.active is None else backend.where(given.active, losses, 0.0)
        return losses

    def _finite_lse(self, statistics: Statistics) -> Array:
        """lse, but 0 where it is not finite: nll is NaN there, and 0 times the slope of the square would be too."""
        return self.backend.where(self.backend.isfinite(statistics.lse), statistics.lse, 0.0)

    def _constant(self, given: Given, mass: Array) -> Array:
        """A mass, which has no derivative."""
        return self._counted(given, self.backend.stop_gradient(mass))

    def _counted(self, given: Given, x: Array) -> Array:
        """The same with a finite number at tokens that are left out, where it could be anything."""
        return x if given.active is None else self.backend.where(given.active, x, 1.0)

    def _ones(self, mass: Array) -> Array:
        return self.backend.nan_unless(mass >= 0, self.backend.ones_like(mass, dtype=self.kernel.spec.dtype))

    def _times_log(self, x: Array) -> Array:
        return x * self.backend.log(self.backend.where(self.backend.equal(x, 0.0), 1.0, x))

    def _of_labels(self, x: Array, given: Given) -> Array:
        return classes.of_labels(self.backend, x, given.logits, given.targets)
