"""From the arguments of a linear loss to arrays of one backend that have passed every check."""

from typing import Any, NamedTuple

from seqloss.core import dtypes, open_sizes, packed, shapes
from seqloss.core.argument import Argument
from seqloss.core.call import Call
from seqloss.core.protocol import Array
from seqloss.losses import arguments
from seqloss.losses.arguments import SequenceArguments
from seqloss.losses.beside import Beside


class LinearArguments(NamedTuple):
    """The arrays of a linear loss, checked and placed in one backend."""

    given: SequenceArguments
    """With hidden in the place of the logits."""
    kernel: Array
    bias: Array | None

    @property
    def arrays(self) -> tuple[Array | None, ...]:
        hidden, *others = self.given.arrays
        return hidden, self.kernel, self.bias, *others


def linear(
    call: Call,
    kernel: Any,
    bias: Any,
    targets: Any,
    weights: Any,
    check_labels: bool | None,
    *,
    exact: bool,
    wrt: tuple[str, ...] | None,
    more: Beside,
    needs_ids: str | None,
    cu_seqlens: Any,
) -> LinearArguments:
    """Check and place hidden, kernel and bias, then the others beside the logits that nobody stores.

    ``call`` has hidden as its main argument, which gets the shape and the dtype of these logits. The options are those
    of :func:`seqloss.losses.arguments.sequence`.
    """
    h, k = call.main, call.beside("kernel", kernel)
    b = None if bias is None else call.beside("bias", bias)
    is_packed = cu_seqlens is not None or h.packed is not None
    packed.hidden(h.shape) if is_packed else shapes.hidden(h.shape)
    shapes.kernel(k.shape, h.shape)
    for argument in (h, k):
        dtypes.float_dtype(argument.name, argument.dtype)
    widest = dtypes.widest(h.dtype, k.dtype)
    placed_kernel, placed_bias = call.place(k, rank=2), None
    if b is not None:
        shapes.bias(b.shape, k.shape)
        dtypes.float_dtype("bias", b.dtype)
        widest, placed_bias = dtypes.widest(widest, b.dtype), call.place(b, rank=1)
        if shapes.is_open(k.shape, b.shape):
            classes = call.backend.arange(call.backend.sizes(placed_kernel)[1], like=placed_kernel)
            placed_bias = call.compare([classes, placed_bias], open_sizes.CLASSES_DIFFER)[1]
    elif wrt is not None and "bias" in wrt:
        dtypes.no_bias()
    if wrt is not None:
        placed_kernel = call.backend.stop_gradient(placed_kernel)
        placed_bias = None if placed_bias is None else call.backend.stop_gradient(placed_bias)
    logits = shapes.of_product(h.shape, k.shape)
    call.main = Argument(h.name, h.value, h.facts, logits, widest, h.is_host, h.packed)
    given = arguments.sequence(
        call,
        targets,
        weights,
        check_labels,
        labels_are_classes=True,
        exact=exact,
        wrt=wrt,
        more=more,
        needs_ids=needs_ids,
        cu_seqlens=cu_seqlens,
        of_classes=placed_kernel,
    )
    return LinearArguments(given, placed_kernel, placed_bias)
