"""A linear loss as numbers and names, and made again of them, for frameworks whose operators take no objects."""

from seqloss.core.linear import Encoded, LinearSpec
from seqloss.core.protocol import Backend
from seqloss.losses.kernels import LabelKernel, TokenKernel
from seqloss.losses.objective import Objective, TokenLoss
from seqloss.losses.reduction import Plan
from seqloss.losses.sequence_op import SequenceLossOp, Wanted


def encoded(kind: str, loss: SequenceLossOp, spec: LinearSpec, *more: bool) -> Encoded:
    """All that is static of an operation of this kind. ``more`` are flags that it has beside."""
    (eps, off_target, centred, z_loss, softcap), plan = loss.tokens.objective, loss.plan
    floats = (eps, z_loss) if softcap is None else (eps, z_loss, softcap)
    ints = (0 if spec.chunk is None else spec.chunk, *loss.exclude)
    of_loss = (loss.tokens.is_soft, off_target, centred, loss.constant_weights, loss.wanted.weights, loss.exact)
    of_plan = (0 in plan.axis, 1 in plan.axis, plan.of_sequences)
    bools = (*of_loss, *of_plan, spec.wrt_hidden, spec.wrt_kernel, spec.wrt_bias, *more)
    return Encoded(floats, ints, bools, (kind, plan.denominator, loss.dtype, spec.dtype))


def decoded(backend: Backend, code: Encoded) -> tuple[SequenceLossOp, LinearSpec, tuple[bool, ...]]:
    """The arguments of :func:`encoded`, but for the kind."""
    eps, z_loss, *cap = code.floats
    chunk, *exclude = code.ints
    is_soft, off_target, centred, constant_weights, to_weights, exact, *rest = code.bools
    of_batch, of_time, of_sequences, to_hidden, to_kernel, to_bias, *more = rest
    _, denominator, dtype, wide = code.strs
    objective = Objective(eps, off_target, centred, z_loss, cap[0] if cap else None)
    plan = Plan((0,) * of_batch + (1,) * of_time, denominator, of_sequences)
    kernel_spec = objective.spec(wide)
    kernel = LabelKernel(backend, kernel_spec, False) if is_soft else TokenKernel(backend, kernel_spec)
    wanted = Wanted(to_weights, False)
    tokens = TokenLoss(kernel, objective)
    loss = SequenceLossOp(tokens, plan, tuple(exclude), dtype, constant_weights, wanted, exact)
    return loss, LinearSpec(wide, chunk or None, to_hidden, to_kernel, to_bias), tuple(more)
