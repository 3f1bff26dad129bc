"""The built-in losses as operations: a kernel and a reduction as one function of arrays, forward and backward.

``composed`` leaves differentiation to the framework. ``forward`` and ``pullback`` compute the same without it: they
serve ``sequence_loss_and_grad``, backends in which one operation is cheaper than a graph of twenty, and the exact mode,
whose float64 must not be seen from outside.
"""

from typing import Any

from seqloss.core import dtypes
from seqloss.core.contract import Spec
from seqloss.core.errors import NO_SUM_DERIVATIVE, NO_TARGETS_DERIVATIVE
from seqloss.core.linear import LinearSpec
from seqloss.core.protocol import Array, Backend
from seqloss.losses import accuracy, arguments, reduction
from seqloss.losses.arguments import SequenceArguments
from seqloss.losses.kernels import LabelKernel, SigmoidKernel, TokenKernel
from seqloss.losses.linear_arguments import LinearArguments
from seqloss.losses.linear_op import LinearLossOp, LinearTotalsOp
from seqloss.losses.objective import PLAIN, Objective, TokenLoss
from seqloss.losses.sequence_op import SequenceLossOp, excused, without_excused
from seqloss.losses.sequence_op import Wanted as Wanted
from seqloss.losses.token_arguments import TokenArguments
from seqloss.losses.token_op import TokenLossOp
from seqloss.losses.totals import Totals, TotalsOp, barrier


def sequence_loss(call: SequenceArguments, plan: reduction.Plan, objective: Objective, exact: bool) -> Array:
    """The loss of checked arguments, which the framework can differentiate."""
    wrt = Wanted(not call.constant_weights, not call.constant_targets)
    return call.backend.run(sequence_loss_op(call, plan, objective, exact, wrt), call.arrays)[0]


def sequence_loss_op(
    call: SequenceArguments, plan: reduction.Plan, objective: Objective, exact: bool, wrt: Wanted
) -> SequenceLossOp:
    """The loss of checked arguments as a function of ``call.arrays``."""
    spec = objective.spec("float64" if exact else call.dtype)
    kernel = LabelKernel(call.backend, spec, wrt.targets) if call.is_soft else TokenKernel(call.backend, spec)
    tokens = TokenLoss(kernel, objective)
    return SequenceLossOp(tokens, plan, call.exclude, call.dtype, call.constant_weights, wrt, exact)


def linear_loss_op(
    call: LinearArguments,
    plan: reduction.Plan,
    objective: Objective,
    exact: bool,
    chunk: int | None,
    wrt: tuple[str, ...] | None = None,
) -> LinearLossOp:
    """The loss of hidden and a kernel as a function of ``call.arrays``, with the gradients that may be asked for."""
    given, backend = call.given, call.given.backend
    of_three = (("hidden", given.logits), ("kernel", call.kernel), ("bias", call.bias))
    if wrt is None:
        asked = [x is not None and backend.needs_grad(x) for _, x in of_three]
    else:
        asked = [name in wrt for name, _ in of_three]
    dtype = "float64" if exact else given.dtype
    of_logits = sequence_loss_op(given, plan, objective, exact, Wanted(not given.constant_weights, False))
    return LinearLossOp(of_logits, LinearSpec(dtype, chunk, *asked))


def linear_loss(
    call: LinearArguments, plan: reduction.Plan, objective: Objective, exact: bool, chunk: int | None
) -> Array:
    """The loss of hidden and a kernel, which the framework can differentiate with respect to all but soft targets."""
    given, backend = call.given, call.given.backend
    loss = backend.run(linear_loss_op(call, plan, objective, exact, chunk), call.arrays)[0]
    if given.is_soft and not given.constant_targets:
        loss = loss + barrier(backend, backend.dtype(loss), given.targets, text=NO_TARGETS_DERIVATIVE)
    return loss


def linear_totals(
    call: LinearArguments, objective: Objective, exact: bool, chunk: int | None, counts_right: bool
) -> Totals:
    """The totals of such losses, and a 0 that cannot be differentiated."""
    given, backend = call.given, call.given.backend
    of_logits = sequence_loss_op(given, reduction.of_name("none"), objective, exact, Wanted(False, False))
    of_logits = of_logits._replace(constant_weights=True)
    spec = LinearSpec("float64" if exact else given.dtype, chunk, False, False, False)
    stopped = [None if x is None else backend.stop_gradient(x) for x in (*call.arrays[:3], given.weights)]
    arrays = (*stopped[:3], given.targets, stopped[3], given.kept)
    (limbs,) = backend.run(LinearTotalsOp(of_logits, spec, counts_right), arrays)
    watched = given.logits, call.kernel, call.bias, given.weights
    return Totals(limbs, barrier(backend, given.dtype, *watched, text=NO_SUM_DERIVATIVE))


def with_gradients(
    op: Any, call: SequenceArguments, cotangent: Any, of_tokens: bool, arrays: tuple[Any, ...]
) -> tuple[Array, tuple[Array | None, ...]]:
    """The loss of an explicit operation on checked arguments, and its gradients for the cotangent of the caller."""
    backend = call.backend
    if getattr(op, "is_foreseen", False):
        upstream = None
        if cotangent is not None:
            one = backend.astype(backend.arange(1, like=call.logits), call.dtype)
            upstream = arguments.cotangent(call, cotangent, backend.reshape(one, ()))
        (loss,), gradients = op.at_once(arrays, upstream)
        return loss, op.in_dtypes(arrays, gradients) if isinstance(op, LinearLossOp) else gradients
    (loss,), residuals = op.forward(*arrays)
    return loss, op.pullback(arrays, residuals, (arguments.cotangent(call, cotangent, loss, of_tokens),))


def totals(call: SequenceArguments, objective: Objective, exact: bool, counts_right: bool) -> Totals:
    """The totals of checked arguments, with a 0 that cannot be differentiated."""
    kernel = TokenKernel(call.backend, objective.spec("float64" if exact else call.dtype))
    of_tokens, plan = TokenLoss(kernel, objective), reduction.of_name("none")
    loss = SequenceLossOp(of_tokens, plan, call.exclude, call.dtype, True, Wanted(False, False), exact)
    backend = call.backend
    # Without derivatives, so that nothing is kept for them; the barrier refuses them.
    logits = backend.stop_gradient(call.logits)
    weights = None if call.weights is None else backend.stop_gradient(call.weights)
    is_right = accuracy.is_right(backend, logits, call.targets) if counts_right else None
    (limbs,) = backend.run(TotalsOp(loss), (logits, call.targets, weights, call.kept, is_right))
    return Totals(limbs, barrier(backend, call.dtype, call.logits, call.weights))


def token_objective(call: TokenArguments, objective: Objective, exact: bool) -> Array:
    """The loss of each token of checked arguments, which the framework can differentiate."""
    backend, is_plain = call.backend, objective == PLAIN and call.class_weights is None
    if is_plain and not exact:
        return token_losses(backend, call.logits, call.targets, call.active)
    dtype = dtypes.compute_dtype(backend.dtype(call.logits))
    kernel = TokenKernel(backend, objective.spec("float64" if exact else dtype))
    op = TokenLossOp(TokenLoss(kernel, objective), call.exclude, dtype, exact)
    return backend.run(op, (call.logits, call.targets, call.active, call.class_weights, call.prior))[0]


def token_losses(backend: Backend, logits: Array, targets: Array, active: Array | None) -> Array:
    """The cross entropy of each token, which the framework can differentiate."""
    kernel = TokenKernel(backend, Spec(dtypes.compute_dtype(backend.dtype(logits))))
    return backend.run(kernel, (logits, targets, active, None))[0]


def weighted_token_losses(
    backend: Backend, logits: Array, targets: Array, active: Array | None, constant_weights: bool
) -> Array:
    """The loss of each token, 0 for what weight 0 must remove, which the framework can differentiate."""
    if constant_weights or active is None:
        return token_losses(backend, logits, targets, active)
    targets, free = excused(backend, logits, targets, active)
    return without_excused(backend, token_losses(backend, logits, targets, None), active, free)


def label_losses(
    backend: Backend, logits: Array, labels: Array, mass: Array, active: Array | None, wrt_labels: bool
) -> Array:
    """The loss of each token against soft labels, which the framework can differentiate."""
    kernel = LabelKernel(backend, Spec(backend.dtype(labels)), wrt_labels)
    return backend.run(kernel, (logits, labels, mass, active, None))[0]


def sigmoid_losses(backend: Backend, logits: Array, labels: Array, pos_weight: Array | None, wrt_labels: bool) -> Array:
    """The loss of each of independent classes, which the framework can differentiate."""
    return backend.run(SigmoidKernel(backend, wrt_labels), (logits, labels, pos_weight))[0]
