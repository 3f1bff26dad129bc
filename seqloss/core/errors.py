"""The errors of seqloss. They are shown as ``seqloss.LabelError``, the name that users know.

Each is also a ``ValueError`` or a ``TypeError``, so that callers need not know this module. All share
``Exception.__init__``: the AutoGraph of TensorFlow 2.21 re-raises an error with its own class only when the class has
that very constructor, and turns every other one into a ``StagingError``.
"""


class SeqlossError(Exception):
    """Base of all errors raised by seqloss."""

    __module__ = "seqloss"

    __init__ = Exception.__init__


class ShapeError(SeqlossError, ValueError):
    """An argument has the wrong rank or size."""

    __module__ = "seqloss"


class DTypeError(SeqlossError, TypeError):
    """An array has a dtype of the wrong kind."""

    __module__ = "seqloss"


class ArgumentTypeError(SeqlossError, TypeError):
    """An argument has the wrong type: a flag that is not a bool, an array that is not a dense array."""

    __module__ = "seqloss"


class OptionError(SeqlossError, ValueError):
    """Options contradict each other, or one has a value that does not exist."""

    __module__ = "seqloss"


class LabelError(SeqlossError, ValueError):
    """A token that counts has a label outside ``[0, classes)``."""

    __module__ = "seqloss"


class UnreadableError(SeqlossError, ValueError):
    """A value is needed in Python, but the array is being traced or is on a device that cannot be read."""

    __module__ = "seqloss"


class MixedBackendsError(SeqlossError, TypeError):
    """Arrays of two frameworks in one call."""

    __module__ = "seqloss"


class DeviceError(SeqlossError, ValueError):
    """Arrays of one framework on different devices, in a framework that does not move them."""

    __module__ = "seqloss"


class BackendError(SeqlossError, ValueError):
    """A backend is registered twice, unknown, or cannot do what is asked of it."""

    __module__ = "seqloss"


FORWARD_MODE = (
    "the loss cannot be differentiated in forward mode (jvp, jacfwd, or hessian, which uses it), only in reverse "
    "mode; use grad, vjp or jacrev, and jacrev of jacrev for a Hessian"
)
"""Text of a BackendError that only a backend can raise."""

EXACT_ONCE = (
    "exact=True, and the linear loss, have only first derivatives, in reverse mode; where a gradient is differentiated "
    "again, or in forward mode, leave exact=True out and call seqloss.sequence_loss"
)
"""Text of a BackendError that only a backend can raise."""

NO_DERIVATIVE = (
    "a LossSum cannot be differentiated, because it is for evaluation and logs; differentiate seqloss.sequence_loss, "
    "with reduction='sum' and normalizer=n for one part of a batch, and pass seqloss.loss_sum logits and weights that "
    "have no gradient (.detach(), stop_gradient)"
)
"""Text of a BackendError that only a backend can raise."""

NO_SUM_DERIVATIVE = (
    "linear_loss_sum is for evaluation and logs and cannot be differentiated; differentiate "
    "seqloss.linear_sequence_loss, and pass seqloss.linear_loss_sum arrays that have no gradient (.detach(), "
    "stop_gradient)"
)
"""Text of a BackendError: what only a backend can notice."""

NO_TARGETS_DERIVATIVE = (
    "the linear loss has no gradient for soft targets, which are as large as the logits; pass targets that have none "
    "(.detach(), stop_gradient; inside of a tf.function whose gradient is taken outside), or compute the logits and "
    "call seqloss.sequence_loss"
)
"""Text of a BackendError: what only a backend can notice."""

LAYOUT_NEEDS_GRAPH = (
    "an argument is a DTensor, which TensorFlow computes with in graphs only; call the function inside a tf.function, "
    "as in tf.function(seqloss.sequence_loss)(logits, targets, weights), and take gradients there too"
)
"""Text of a BackendError that only a backend can raise."""

NO_ARRAY_API = (
    "this backend is for frameworks of the Array API standard that have no other backend, but none is imported; "
    "import yours first"
)
"""Text of a BackendError that only a backend can raise."""

ROWS_IN_PARTS = (
    "logits have the placements {}, but each row must be whole on one device, not split by class and not partial; "
    "pass logits.redistribute(placements={})"
)
"""Text of a BackendError that only a backend can raise."""

OF_ONE_PROCESS = (
    "{} is a DTensor, but a Perplexity counts the rows of its own process only; pass those, as in logits.to_local(), "
    "and add up the processes with all_reduce(); or add up the results of seqloss.loss_sum, which count the rows of "
    "all processes"
)
"""Text of a BackendError that only a backend can raise."""

NO_DISTRIBUTED_KERNEL = (
    "the linear loss takes no DTensor; pass hidden.to_local() and a kernel that is whole on each rank, as "
    "kernel.full_tensor() makes it, or compute the logits and call seqloss.sequence_loss"
)
"""A kernel of torch that is split over ranks, as FSDP does it."""

OTHER_MESH = (
    "a DTensor is passed with a plain tensor, or with one of another mesh; distribute the logits as well "
    "(torch.distributed.tensor.distribute_tensor), or pass x.full_tensor() in place of the other"
)
"""Text of a BackendError that only a backend can raise."""
