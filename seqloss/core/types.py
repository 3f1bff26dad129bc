"""What type checkers and editors know of arguments and results. Nothing here is asked when a program runs."""

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from typing import TypedDict

    from seqloss.core.smoothing import Smoothing


class AnyArray(Protocol):
    """What the arrays of all frameworks have, and strings, None, numbers and lists have not."""

    @property
    def shape(self) -> Any: ...

    @property
    def dtype(self) -> Any: ...


Main = TypeVar("Main", bound=AnyArray)
"""The array that a function is about: its results are arrays of the same type."""
ArrayLike = AnyArray | list[Any] | tuple[Any, ...] | float
"""What may be beside it: lists and numbers as well."""

Mean = Literal["mean", "sum", "none", "per_sequence", "sequence_mean"]
"""The values of ``reduction``."""
Wrt = Literal["logits", "weights", "targets"]
"""The arguments that a gradient may be asked for."""
WrtLinear = Literal["hidden", "kernel", "bias", "weights"]
"""The same of the linear loss."""
ReductionKey = Literal[
    "none", "weighted_sum", "weighted_mean", "weighted_sum_over_batch_size", "weighted_sum_by_nonzero_weights"
]
"""The keys of :class:`seqloss.Reduction`."""
Partition = Literal["mod", "div"]
"""How shards of weights divide the classes."""

if TYPE_CHECKING:

    class GradientOptions(TypedDict, total=False):
        """The keyword-only options of ``sequence_loss_and_grad`` but ``wrt``."""

        ignore_index: int | tuple[int, ...] | None
        lengths: ArrayLike | None
        cu_seqlens: ArrayLike | None
        label_smoothing: float | Smoothing
        class_weights: ArrayLike | None
        z_loss: float
        softcap: float | None
        reduction: Mean | None
        normalizer: ArrayLike | None
        check_labels: bool | None
        exact: bool
        cotangent: ArrayLike | None

    class LinearGradientOptions(GradientOptions, total=False):
        """The keyword-only options of ``linear_sequence_loss_and_grad`` but ``wrt``."""

        bias: ArrayLike | None
        chunk: int | None
