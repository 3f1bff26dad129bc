"""From the arguments of a call to arrays of one backend that have passed every check.

What is decided here is the same for each backend: which checks run and in which order, when labels are read, where
host values go, and what happens to sizes that are unknown while tracing.
"""

from typing import Any, NamedTuple

from seqloss.core import dispatch, dtypes, labels, reduction, shapes
from seqloss.core.protocol import Argument, Array, Backend


class Sequence(NamedTuple):
    """The arrays of a sequence loss, checked and placed in one backend."""

    backend: Backend
    logits: Array
    targets: Array
    weights: Array | None
    """As they came, but for their place."""
    dtype: str
    """That of the loss."""
    fixed: bool
    """Whether nobody asks for the gradient of the weights."""
    weights_dtype: str
    """The dtype of a gradient to weights: that of the caller's array, the compute dtype for host values."""
    agree: Array | None
    """A bool scalar that becomes known when the graph runs; None where all sizes are known now."""

    def prepared(self) -> reduction.Weights:
        return reduction.prepare_any(self.backend, self.weights, self.targets, self.dtype, self.fixed)

    def guard(self, x: Array) -> Array:
        """NaN where the sizes turn out to differ, because compilers may drop the assertion that says so."""
        return x if self.agree is None else self.backend.nan_unless(self.agree, x)


class Received(NamedTuple):
    """The arguments of a call whose backend is known; nothing else has been looked at."""

    backend: Backend
    logits: Argument
    targets: Argument
    mask: Argument | None
    """The weights of a sequence loss, or the ``active`` of a token loss."""


def receive(logits: Any, targets: Any, mask: Any, name: str = "weights") -> Received:
    """Find the backend of a call, which the logits decide, and see that the other arrays can go with it."""
    z = dispatch.argument("logits", logits)
    y = dispatch.beside(z, "targets", targets)
    return Received(z.facts, z, y, None if mask is None else dispatch.beside(z, name, mask))


def sequence(
    given: Received,
    check_labels: bool | None,
    *,
    ranged: bool,
    exact: bool = False,
    wrt: tuple[str, ...] | None = None,
) -> Sequence:
    """Check and place the arrays of a sequence loss.

    Parameters
    ----------
    ranged : bool
        Whether targets must lie in [0, classes). With a custom loss the last axis need not be classes.
    wrt : tuple of str or None
        The arguments whose gradients are computed by explicit pullbacks, which detaches everything; None leaves
        differentiation to the framework.
    """
    backend, z, y, w = given
    is_open = _check_sequence(z, y, w, wrt)
    if exact:
        dtypes.exact_logits(z.dtype)
    dtype = dtypes.compute_dtype(z.dtype)
    weights_dtype = dtype if w is None or w.is_host else w.dtype
    fixed = w is None or w.is_host or w.dtype not in dtypes.FLOATS
    if w is not None and w.is_host:
        with w.facts.scope(None):  # what overflows is an infinite weight, as it is beside any logits
            w = w.holding(w.facts.astype(w.value, dtype))
    if ranged:
        y = _checked_labels(y, z.shape, w, check_labels, dtype=dtype)

    def placed(argument: Argument, rank: int) -> Array:
        array = dispatch.place(backend, argument, z.value)
        array = backend.with_rank(array, rank) if argument.shape is None else array
        return array if wrt is None else backend.stop_gradient(array)

    arrays = [placed(z, 3), placed(y, 2)] if w is None else [placed(z, 3), placed(y, 2), placed(w, 2)]
    agree, arrays = backend.sizes_agree(arrays, shapes.SIZES_DIFFER) if is_open else (None, arrays)
    weights = None if w is None else arrays[2]
    if w is not None:
        fixed = (fixed or not backend.needs_grad(weights)) if wrt is None else "weights" not in wrt
    return Sequence(backend, arrays[0], arrays[1], weights, dtype, fixed, weights_dtype, agree)


def _check_sequence(z: Argument, y: Argument, w: Argument | None, wrt: tuple[str, ...] | None) -> bool:
    """The checks that need no values. Whether sizes are left to be compared when the graph runs."""
    shape = z.shape
    see_order(z, y)
    shapes.sequence_logits(shape)
    is_open = shapes.sequence_targets(y.shape, shape, y.dtype)
    if w is not None:
        is_open |= shapes.sequence_weights(w.shape, shape, w.dtype)
        dtypes.weights_dtype(w.dtype)
    shapes.classes(shape)
    dtypes.float_dtype("logits", z.dtype)
    dtypes.targets_dtype(y.dtype)
    if wrt is not None and "weights" in wrt:
        dtypes.differentiable_weights(None if w is None else w.dtype)
    return is_open


def see_order(logits: Argument, labels: Argument, more: int = 1) -> None:
    """See that the two are not swapped: other libraries, or old versions of one, have them in the other order.

    ``more`` is how many axes more logits have than labels.
    """
    if logits.dtype in dtypes.INTEGERS and labels.dtype in dtypes.FLOATS:
        shapes.swapped(logits.name, logits.shape, labels.name, labels.shape, more)


class Tokens(NamedTuple):
    """The arrays of a token loss, checked and placed in one backend."""

    backend: Backend
    logits: Array
    targets: Array
    active: Array | None
    agree: Array | None


def tokens(given: Received, exact: bool) -> Tokens:
    """Check and place the arrays of a token loss."""
    backend, z, y, mask = given
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
    y = _checked_labels(y, z.shape, mask, None, "active")
    arrays = [dispatch.place(backend, argument, z.value) for argument in (z, y, mask) if argument is not None]
    agree, arrays = backend.sizes_agree(arrays, shapes.TOKEN_SIZES_DIFFER) if is_open else (None, arrays)
    return Tokens(backend, arrays[0], arrays[1], arrays[2] if mask is not None else None, agree)


def _checked_labels(
    targets: Argument,
    logits: shapes.Shape,
    weights: Argument | None,
    check_labels: bool | None,
    mask: str = "weights",
    dtype: str | None = None,
) -> Argument:
    classes = None if logits is None else logits[-1]
    labels.check(targets, classes, weights, check_labels, mask, dtype=dtype)
    return labels.for_placing(targets, classes) if targets.is_host else targets


def cotangent(call: Sequence, value: Any, loss: Array) -> Array:
    """The cotangent of the loss in its dtype: ones, or the caller's array of exactly its shape."""
    backend = call.backend
    dtype = backend.dtype(loss)
    if value is None:
        return backend.ones_like(loss, dtype=dtype)
    given = dispatch.beside(dispatch.argument("logits", call.logits), "cotangent", value)
    is_open = shapes.cotangent(given.shape, backend.shape(loss))
    dtypes.cotangent_dtype(given.dtype)
    given = given.holding(given.facts.astype(given.value, dtype))
    array = backend.stop_gradient(dispatch.place(backend, given, call.logits))
    if not is_open:
        return array
    rank = len(backend.sizes(loss))
    array = backend.with_rank(array, rank) if given.shape is None else array
    agree, (_, array) = backend.sizes_agree([loss, array], shapes.COTANGENT_SIZES_DIFFER)
    return backend.nan_unless(agree, array)
