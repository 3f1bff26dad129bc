"""From the arguments of a sequence loss to arrays of one backend that have passed every check.

What is decided here is the same for each backend: which checks run and in which order, when labels are read, where
host values go, and what happens to sizes that are unknown while tracing.
"""

from typing import Any, NamedTuple

from seqloss.core import dispatch, dtypes, labels, objectives, open_sizes, packed, shapes
from seqloss.core.argument import Argument
from seqloss.core.call import Call, see_order
from seqloss.core.protocol import Array, Backend
from seqloss.losses import beside, counting, packing, reduction
from seqloss.losses.beside import NOTHING_BESIDE, Beside


class SequenceArguments(NamedTuple):
    """The arrays of a sequence loss, checked and placed in one backend."""

    call: Call
    logits: Array
    targets: Array
    weights: Array | None
    """As they came, but for their place."""
    dtype: str
    """That of the loss."""
    constant_weights: bool
    """Whether nobody asks for the gradient of the weights."""
    weights_dtype: str
    """The dtype of the weights' gradient: that of the caller's array, or the compute dtype for host values."""
    kept: Array | None = None
    """False where a token is ignored, whatever its weight."""
    class_weights: Array | None = None
    prior: Array | None = None
    normalizer: Array | None = None
    exclude: tuple[int, ...] = ()
    is_soft: bool = False
    """Whether the targets are a number for each class."""
    constant_targets: bool = True
    targets_dtype: str = ""
    """The dtype of the gradient with respect to soft targets, as for weights."""
    offsets: Array | None = None
    """Where each sequence of packed input begins; else packed input would be a batch of one sequence."""
    ragged: Any = None
    """The function that turns values into a ragged array, if the logits are ragged."""

    @property
    def backend(self) -> Backend:
        return self.call.backend

    @property
    def arrays(self) -> tuple[Array | None, ...]:
        more = (self.kept, self.class_weights, self.prior, self.normalizer, self.offsets)
        return self.logits, self.targets, self.weights, *more

    def wide_normalizer(self) -> Array | None:
        return reduction.normalizer(self.backend, self.normalizer, self.dtype)

    def members(self, plan: reduction.Plan) -> Array | None:
        return packing.members(self.backend, plan, self.offsets, self.logits)

    def token_weights(self) -> counting.Weights:
        return counting.token_weights(self.backend, self.weights, self.dtype, self.constant_weights, self.kept)


def sequence(
    call: Call,
    targets: Any,
    weights: Any,
    check_labels: bool | None,
    *,
    labels_are_classes: bool,
    exact: bool = False,
    wrt: tuple[str, ...] | None = None,
    more: Beside = NOTHING_BESIDE,
    needs_ids: str | None = None,
    cu_seqlens: Any = None,
    of_classes: Array | None = None,
) -> SequenceArguments:
    """Check and place the arrays of a sequence loss, whose logits are the main argument of the call.

    Packed input becomes a batch of one sequence, [1, tokens, classes]; the loss and its gradients have this additional
    axis.

    Parameters
    ----------
    labels_are_classes : bool
        Whether targets must lie in [0, classes). With a custom loss the last axis need not be classes.
    wrt : tuple of str or None
        The arguments whose gradients are computed by explicit pullbacks, which detaches everything; None leaves
        differentiation to the framework.
    needs_ids : str or None
        An option of the call that goes with integer targets only.
    of_classes : array [features, classes] or None
        There are no logits, only their shape and dtype; hidden [batch, time, features] takes their place, and this
        array has the classes.
    """
    backend, z = call.backend, call.main
    is_packed = cu_seqlens is not None or z.packed is not None
    y = call.beside("targets", targets, opens=True)
    w = None if weights is None else call.beside("weights", weights, opens=True)
    rank = 1 if is_packed else 2
    is_soft = y.dtype in dtypes.FLOATS and (y.shape is None or len(y.shape) == rank + 1)
    is_open = _check(z, y, w, wrt, is_soft, is_packed)
    if is_soft and needs_ids is not None:
        objectives.beside_soft_targets(needs_ids)
    if exact:
        dtypes.exact_logits(z.dtype)
    dtype = dtypes.compute_dtype(z.dtype)
    weights_dtype = dtype if w is None or w.is_host else w.dtype
    targets_dtype = dtype if y.is_host else y.dtype
    offsets = packing.check(call, cu_seqlens, more.lengths is not None, y, w) if is_packed else None
    checked, given_targets = beside.NOTHING_CHECKED if more is NOTHING_BESIDE else beside.check(call, more), y
    if is_soft:
        labels.check_soft(y, w, check_labels, dtype, checked.out)
    elif labels_are_classes:
        y = call.checked_labels(y, w, check_labels, dtype=dtype, out=checked.out, mend=labels.IGNORE)
    placed = [z.value if z.shape is not None else call.place(z, rank=rank + 1)]
    placed.append(call.place(y, dtype, rank=rank + 1) if is_soft else call.place(y, rank=rank))
    if w is not None:
        # Cast host values on the host, where float64 has not become float32 yet.
        placed.append(call.place(w, dtype if w.is_host else None, rank=rank))
    others = beside.NOTHING_PLACED
    if checked is not beside.NOTHING_CHECKED:
        others = beside.place(call, checked, placed[0], given_targets, rank, of_classes)
    if wrt is not None:
        placed = [backend.stop_gradient(x) for x in placed]
    if is_open:
        message = open_sizes.SOFT_TARGETS_DIFFER if is_soft else open_sizes.SIZES_DIFFER
        message = open_sizes.PACKED_SIZES_DIFFER if is_packed else message
        if of_classes is not None and is_soft:
            placed = _compared_without_logits(call, placed, of_classes, message)
        else:
            placed = call.compare(placed, message)
    constant_targets = True
    if is_soft:
        constant_targets = call.is_constant(y, placed[1]) if wrt is None else "targets" not in wrt
    values, constant = None, True
    if w is not None:
        values = placed[2]
        constant = call.is_constant(w, values) if wrt is None else "weights" not in wrt
    class_weights, prior, kept, known, normalizer = others
    starts = None
    if offsets is not None:
        starts, known = packing.place(call, offsets, placed[0], y, w)
        placed[0], placed[1], values, kept = packing.lifted(backend, placed[0], placed[1], values, kept)
    if known is not None:
        # What is out would not be seen to be NaN.
        kept = None if kept is None else kept | ~known
        like = kept if kept is not None else backend.min(placed[0], axis=(-1,))
        values = backend.ones_like(like, dtype=dtype) if values is None else backend.astype(values, dtype)
        values = backend.nan_unless(known, values)
    return SequenceArguments(
        call,
        placed[0],
        placed[1],
        values,
        dtype,
        constant,
        weights_dtype,
        kept,
        class_weights,
        prior,
        normalizer,
        more.exclude,
        is_soft,
        constant_targets,
        targets_dtype,
        starts,
        None if z.packed is None else z.packed[1],
    )


def _check(
    z: Argument, y: Argument, w: Argument | None, wrt: tuple[str, ...] | None, is_soft: bool, is_packed: bool
) -> bool:
    """The checks that need no values. Returns whether sizes are left to be compared at run time."""
    if not is_packed and _are_usual(z, y, w, wrt):
        return False
    see_order(z, y)
    for argument in (y, w):
        if argument is not None and (argument.packed is None) is not (z.packed is None):
            packed.other_form(argument.name, z.packed is None)
    is_open = _check_packed(z, y, w, is_soft) if is_packed else _check_padded(z, y, w, is_soft)
    if w is not None:
        dtypes.weights_dtype(w.dtype)
    shapes.classes(z.shape)
    dtypes.float_dtype("logits", z.dtype)
    if not is_soft:
        dtypes.targets_dtype(y.dtype, mend=dtypes.SOFT)
        if wrt is not None and "targets" in wrt:
            dtypes.no_gradient_of_ids(y.dtype)
    if wrt is not None and "weights" in wrt:
        dtypes.differentiable_weights(None if w is None else w.dtype)
    return is_open


def _are_usual(z: Argument, y: Argument, w: Argument | None, wrt: tuple[str, ...] | None) -> bool:
    """Whether the call is of the most common kind, for which no check can fail."""
    if z.shape is None or len(z.shape) != 3 or None in z.shape or z.shape[2] == 0 or z.dtype not in dtypes.FLOATS:
        return False
    if y.shape != z.shape[:2] or y.dtype not in dtypes.INTEGERS or not (wrt is None or wrt == ("logits",)):
        return False
    if w is not None and (w.shape != y.shape or w.dtype not in dtypes.FLOATS or w.packed is not None):
        return False
    return y.packed is None


def _check_padded(z: Argument, y: Argument, w: Argument | None, is_soft: bool) -> bool:
    shape = z.shape
    shapes.sequence_logits(shape)
    is_open = shapes.soft_targets(y.shape, shape) if is_soft else shapes.sequence_targets(y.shape, shape, y.dtype)
    return is_open if w is None else shapes.sequence_weights(w.shape, shape, w.dtype) or is_open


def _check_packed(z: Argument, y: Argument, w: Argument | None, is_soft: bool) -> bool:
    packed.logits(z.shape)
    is_open = packed.soft_targets(y.shape, z.shape) if is_soft else packed.tokens("targets", y.shape, z.shape)
    return is_open if w is None else packed.tokens("weights", w.shape, z.shape) or is_open


def _compared_without_logits(call: Call, placed: list[Array], of_classes: Array, message: str) -> list[Array]:
    """Hidden, soft targets and weights, compared when the graph runs, and the classes of targets with the kernel's."""
    backend, (hidden, targets, *weights) = call.backend, placed
    # Of each token nothing, so that what has its sizes depends on hidden and is cheap.
    tokens = backend.sum(hidden[..., :0], axis=(-1,))
    targets, _, *weights = call.compare([targets, tokens, *weights], message)
    of_kernel, of_targets = (backend.arange(backend.sizes(x)[-1], like=x) for x in (of_classes, targets))
    call.compare_same(of_kernel, of_targets, message)
    return [hidden, targets, *weights]


def cotangent(
    given: SequenceArguments, value: Any, loss: Array, of_tokens: bool = False, is_lowered: bool = False
) -> Array:
    """The cotangent of the loss in its dtype: ones, or the caller's array of exactly its shape.

    Where packed tokens keep their losses, ``of_tokens``, that is without the axis of the batch of one.
    """
    if of_tokens and value is not None:
        upstream = cotangent(given, value, packing.lowered(given.backend, loss), is_lowered=True)
        return packing.lifted(given.backend, upstream)[0]
    backend = given.backend
    dtype = backend.dtype(loss)
    if value is None:
        return backend.ones_like(loss, dtype=dtype)
    upstream = dispatch.beside(dispatch.argument("logits", given.logits), "cotangent", value, opens=True)
    ragged = given.call.main.packed if is_lowered else None
    if (upstream.packed is None) is not (ragged is None):
        packed.other_form("cotangent", ragged is None)
    if upstream.packed is not None and ragged is not None:
        packing.same_offsets(given.call, upstream, ragged[0])
    is_open = shapes.cotangent(upstream.shape, backend.shape(loss))
    dtypes.cotangent_dtype(upstream.dtype)
    upstream = upstream.holding(upstream.facts.astype(upstream.value, dtype))
    array = backend.stop_gradient(dispatch.place(backend, upstream, given.logits))
    if not is_open:
        return array
    rank = len(backend.sizes(loss))
    array = backend.with_rank(array, rank) if upstream.shape is None else array
    sizes_match, (_, array) = backend.sizes_agree([loss, array], open_sizes.COTANGENT_SIZES_DIFFER)
    return backend.nan_unless(sizes_match, array)
