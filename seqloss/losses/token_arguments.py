"""From the arguments of a token loss to arrays of one backend that have passed every check."""

from typing import Any, NamedTuple

from seqloss.core import dtypes, open_sizes, shapes
from seqloss.core.call import Call, see_order
from seqloss.core.protocol import Array, Backend
from seqloss.losses import beside
from seqloss.losses.beside import NOTHING_BESIDE, Beside


class TokenArguments(NamedTuple):
    """The arrays of a token loss, checked and placed in one backend."""

    call: Call
    logits: Array
    targets: Array
    active: Array | None
    class_weights: Array | None = None
    prior: Array | None = None
    exclude: tuple[int, ...] = ()

    @property
    def backend(self) -> Backend:
        return self.call.backend


def tokens(call: Call, targets: Any, active: Any, exact: bool, more: Beside = NOTHING_BESIDE) -> TokenArguments:
    """Check and place the arrays of a token loss."""
    z = call.main
    y = call.beside("targets", targets)
    mask = None if active is None else call.beside("active", active)
    see_order(z, y)
    shapes.token_logits(z.shape)
    is_open = shapes.token_argument("targets", y.shape, z.shape, y.dtype)
    if mask is not None:
        is_open |= shapes.token_argument("active", mask.shape, z.shape)
        dtypes.bool_dtype("active", mask.dtype)
    shapes.classes(z.shape)
    dtypes.float_dtype("logits", z.dtype)
    dtypes.targets_dtype(y.dtype)
    if exact:
        dtypes.exact_logits(z.dtype)
    checked = beside.check(call, more)
    y = call.checked_labels(y, mask, None, "active")
    arrays = [call.place(argument) for argument in (z, y, mask) if argument is not None]
    arrays = call.compare(arrays, open_sizes.TOKEN_SIZES_DIFFER) if is_open else arrays
    class_weights, prior = beside.of_classes(call, checked, arrays[0])
    placed_mask = None if mask is None else arrays[2]
    return TokenArguments(call, arrays[0], arrays[1], placed_mask, class_weights, prior, more.exclude)
