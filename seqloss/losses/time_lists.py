"""From lists with one array for each timestep to arrays [time, batch].

Small arrays are stacked: weights and token losses. Logits are stacked if a step of them is small, because one kernel
call on all steps runs and compiles faster than one call for each. A step of many classes and sequences is worth a
kernel call of its own, and is not copied.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from seqloss.core import dispatch, dtypes, shapes
from seqloss.core import labels as label_policy
from seqloss.core.argument import Argument
from seqloss.core.call import Call, see_order
from seqloss.core.errors import ArgumentTypeError, DTypeError, ShapeError
from seqloss.core.protocol import Array
from seqloss.losses import counting, custom, ops

LARGE = 2**18
"""With this many logits in one step (1 MiB of float32) the kernel takes longer than its call."""

_SIZES_DIFFER = (
    "each step must have logits of the same shape [batch, classes], batch labels, and batch weights or a single one, "
    "but their sizes differ at run time"
)


class Steps(NamedTuple):
    """Lists of one call, checked and placed in one backend."""

    call: Call
    logits: list[Array]
    targets: list[Array]
    """Of the shape [batch] each, or as they were given if they are for a custom loss."""
    weights: Array
    """[time, batch] in the compute dtype, exactly 0 where a token does not count."""
    active: Array | None
    """[time, batch]: which tokens count; None if all are known to."""
    constant_weights: bool
    """Whether nobody asks for the gradient of the weights."""


def lists(logits: Any, targets: Any, weights: Any) -> None:
    """The checks of the lists themselves."""
    named = {"logits": logits, "targets": targets, "weights": weights}
    for name, value in named.items():
        if value is None:
            raise ArgumentTypeError(f"{name} is None; pass a list with one array for each timestep")
        dispatch.refuse_packed(name, value)
        if not isinstance(value, (list, tuple)):
            got = "a single array" if hasattr(value, "shape") else f"a {type(value).__qualname__}"
            raise ArgumentTypeError(
                f"{name} must be a list or tuple with one array for each timestep, got {got}; "
                f"unstack an array of the shape [batch, time, ...], as in [{name}[:, t] for t in range(time)], "
                "or pass all three as arrays to seqloss.sequence_loss"
            )
    lengths = [len(value) for value in named.values()]
    if any(length != lengths[0] for length in lengths):
        raise ShapeError(
            "logits, targets and weights must be lists of the same length, with one array for each timestep, got "
            f"lengths {lengths[0]}, {lengths[1]} and {lengths[2]}"
        )
    if lengths[0] == 0:
        raise ShapeError("logits, targets and weights are empty lists; they need at least one timestep")


def steps(logits: Any, targets: Any, weights: Any, *, labels_are_classes: bool) -> Steps:
    """Check and place the arrays of each step. ``labels_are_classes``: targets must lie in [0, classes)."""
    lists(logits, targets, weights)
    call = Call("logits[0]", logits[0])
    first = call.main
    see_order(first, call.beside("targets[0]", targets[0]))
    shapes.rank("logits[0]", first.shape, 2, "[batch, classes]")
    shapes.classes(first.shape)
    dtypes.float_dtype("logits[0]", first.dtype)
    rows, labels, values, constant = [], [], [], True
    for step, (z, y, w) in enumerate(zip(logits, targets, weights, strict=True)):
        z = call.main if step == 0 else _more_logits(call, f"logits[{step}]", z)
        y = call.beside(f"targets[{step}]", y)
        w = call.beside(f"weights[{step}]", w)
        _check_step(first, y, w)
        row, label, value = _placed(call, z, y, w, labels_are_classes)
        rows.append(row)
        labels.append(label)
        values.append(value)
        constant = constant and call.is_constant(w, value)
    batch = call.backend.sizes(rows[0])[0]
    stacked = call.backend.reshape(call.backend.concat(values, axis=0), (len(rows), batch))
    of_tokens = counting.token_weights(call.backend, stacked, dtypes.compute_dtype(first.dtype), constant)
    return Steps(call, rows, labels, of_tokens.values, of_tokens.active, constant)


def _more_logits(call: Call, name: str, value: Any) -> Argument:
    first, more = call.main, call.beside(name, value)
    shapes.equal_shape(name, more.shape, "logits[0]", first.shape)
    if more.dtype != first.dtype:
        raise DTypeError(f"{name} must have the dtype {first.dtype} of logits[0], got {more.dtype}; cast it first")
    return more


def _check_step(first: Argument, y: Argument, w: Argument) -> None:
    batch = None if first.shape is None else first.shape[0]
    shapes.step_targets(y.name, y.shape, batch)
    shapes.step_weights(w.name, w.shape, batch)
    dtypes.targets_dtype(y.dtype, y.name)
    dtypes.weights_dtype(w.dtype, w.name)


def _placed(call: Call, z: Argument, y: Argument, w: Argument, labels_are_classes: bool) -> tuple[Array, Array, Array]:
    """One step of logits [batch, classes], labels, and weights [batch].

    Labels for a custom loss keep their shape, if at least the number of axes is known.
    """
    backend, first = call.backend, call.main
    row = call.place(z, rank=2)
    dtype = dtypes.compute_dtype(first.dtype)
    if labels_are_classes:
        classes = None if first.shape is None else first.shape[-1]
        label_policy.check(y.shaped((-1,)), classes, w, None, dtype=dtype)
        placed = call.place(label_policy.for_placing(y, classes) if y.is_host else y)
    else:
        placed = call.place(y)
    flat = backend.reshape(placed, (-1,))
    kept = flat if labels_are_classes or y.shape is None else placed
    value = call.place(w, dtype)
    if w.shape == ():
        value = call.broadcast(value, flat, _SIZES_DIFFER)
    elif w.shape is None:
        value = backend.with_rank(call.broadcast(value, flat, _SIZES_DIFFER), 1)
    batch = None if first.shape is None else first.shape[0]
    if batch is None or shapes.is_open(z.shape, backend.shape(flat), backend.shape(value)):
        # Compared with the first step, so that all agree with each other.
        _, row, compared, value = call.compare([call.place(first, rank=2), row, flat, value], _SIZES_DIFFER)
        kept = compared if kept is flat else kept
    return row, kept, value


def token_losses(steps: Steps, function: Callable[..., Any] | None) -> Array:
    """The losses of all tokens, [time, batch], with 0 for what weight 0 must remove."""
    backend, active = steps.call.backend, steps.active
    if function is not None:
        parts = [_custom(steps, step, function) for step in range(len(steps.logits))]
    elif _are_small(steps):
        rows, labels = (backend.concat(arrays, axis=0) for arrays in (steps.logits, steps.targets))
        flat = None if active is None else backend.reshape(active, (-1,))
        parts = [ops.weighted_token_losses(backend, rows, labels, flat, steps.constant_weights)]
    else:
        parts = [
            ops.weighted_token_losses(backend, row, label, _step(active, step), steps.constant_weights)
            for step, (row, label) in enumerate(zip(steps.logits, steps.targets, strict=True))
        ]
    losses = parts[0] if len(parts) == 1 else backend.concat(parts, axis=0)
    losses = backend.reshape(losses, backend.sizes(steps.weights))
    return counting.without_masked_nan(backend, losses, active)


def _step(active: Array | None, step: int) -> Array | None:
    return None if active is None else active[step]


def _are_small(steps: Steps) -> bool:
    """Whether the logits of all steps are worth a copy. Labels of several dtypes could not be put in one array."""
    backend = steps.call.backend
    sizes = backend.shape(steps.logits[0])
    known = [size for size in sizes or () if isinstance(size, int)]
    is_large = len(known) == 2 and known[0] * known[1] >= LARGE
    return not is_large and len({backend.dtype(labels) for labels in steps.targets}) == 1


def _custom(steps: Steps, step: int, function: Callable[..., Any]) -> Array:
    """The losses of one step from a caller's function, which gets the labels in the shape that they were given in."""
    backend, labels, active = steps.call.backend, steps.targets[step], _step(steps.active, step)
    if active is not None:
        labels = backend.where(backend.reshape(active, backend.sizes(labels)), labels, 0)
    return custom.of_rows(backend, function, labels, steps.logits[step], active, "[batch]")
