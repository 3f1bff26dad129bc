"""NumPy: operations as they are. Other frameworks differentiate them, or have NumPy run them."""

from seqloss.core.protocol import Array, Arrays, LossOp


def differentiable(op: LossOp, arrays: Arrays) -> tuple[Array, ...]:
    """NumPy differentiates nothing: these are the outputs of the forward kernel."""
    # [()] makes a NumPy scalar of an array of rank 0, as NumPy's own functions return it, and else a view.
    return tuple([x[()] for x in op.forward(*arrays)[0]])


def run(op: LossOp, arrays: Arrays) -> tuple[Array, ...]:
    return differentiable(op, arrays)


def explicit(op: LossOp, arrays: Arrays) -> LossOp:
    return op
