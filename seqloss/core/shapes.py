"""Checks of rank and sizes.

Pure Python on a tuple of sizes. Nothing here touches an array, so the same check with the same text runs eagerly and
under every kind of tracing. A size that is unknown while tracing is ``None``, an unknown rank is a shape of ``None``;
a check that needs it is left open, and the function says so by returning True, and the caller then has the backend
compare the sizes at run time.
"""

from typing import Any

from seqloss.core import hints
from seqloss.core.errors import ShapeError

Shape = tuple[int | None, ...] | None


def text(shape: Shape) -> str:
    if shape is None:
        return "unknown"
    # Not str(size), which torch.compile (torch 2.13) cannot trace where a size is symbolic: the message would be lost.
    return "[" + ", ".join("?" if size is None else f"{size}" for size in shape) + "]"


def is_open(*shapes: Shape) -> bool:
    """Whether any size is unknown, so that the comparison must wait until the graph runs."""
    return any(shape is None or None in shape for shape in shapes)


def classes(logits: Shape, axis: int = -1) -> None:
    if logits is not None and logits and logits[axis] == 0:
        which = "the last axis" if axis == -1 else f"axis {axis}"
        raise ShapeError(f"logits have no classes, got {text(logits)}; {which} must hold at least one class")


def class_axis(axis: int, logits: Shape) -> int:
    """The class axis as -1, or as a place in front of the last one."""
    if axis == -1 and (logits is None or logits):
        return -1
    rank = known_rank("logits", logits, "if axis is not -1")
    if not -rank <= axis < rank:
        raise ShapeError(
            f"axis must be an axis of logits, in [{-rank}, {rank}), got {hints.shown(axis)}; logits are {text(logits)}"
        )
    return -1 if axis % rank == rank - 1 else int(axis) % rank


def without(axis: int, shape: Shape) -> Shape:
    """A shape without one of its axes, which is -1 or a place."""
    return None if shape is None else tuple(size for i, size in enumerate(shape) if i != axis % len(shape))


def swapped(first: str, logits: Shape, second: str, targets: Shape, more: int) -> None:
    """Integer logits and float labels: if labels have as many axes more as logits should have, they are swapped."""
    if logits is not None and targets is not None and len(targets) == len(logits) + more:
        raise ShapeError(
            f"{first} and {second} seem to be swapped, got integer {first} {text(logits)} and float {second} "
            f"{text(targets)}; pass them in the other order, or by keyword, as in {first.removesuffix('[0]')}=..., "
            f"{second.removesuffix('[0]')}=..."
        )


def sequence_logits(logits: Shape) -> None:
    if logits is not None and len(logits) != 3:
        raise ShapeError(
            f"logits must have the shape [batch, time, classes], got {text(logits)}; {hints.sequence_logits(logits)}"
        )


def sequence_targets(targets: Shape, logits: Shape, dtype: str) -> bool:
    """Whether the comparison is left open."""
    expected = (None, None) if logits is None else logits[:2]
    if targets is not None and len(targets) != 2:
        mend = hints.sequence_targets(targets, logits or (None, None, None), dtype)
        raise ShapeError(f"targets must have the shape [batch, time] = {text(expected)}, got {text(targets)}; {mend}")
    return _pair("targets", targets, expected, logits)


def token_ids(targets: Shape) -> None:
    if targets is not None and len(targets) != 2:
        mend = "for packed targets pass cu_seqlens" if len(targets) == 1 else "class ids have no class axis"
        raise ShapeError(f"targets must have the shape [batch, time], got {text(targets)}; {mend}")


def soft_targets(targets: Shape, logits: Shape) -> bool:
    """Targets with a number for each class. Whether the comparison is left open."""
    if targets is None or logits is None:
        return True
    if not hints.agree(targets, logits):
        mend = hints.EVERY_SIZE
        if targets[-1] == 1:
            mend = "class ids are integers without a class axis, as in targets[..., 0]"
        raise ShapeError(
            f"soft targets must have the shape [batch, time, classes] = {text(logits)} of logits, got {text(targets)}; "
            f"{mend}"
        )
    return is_open(targets, logits)


def sequence_weights(weights: Shape, logits: Shape, dtype: str) -> bool:
    """Whether the comparison is left open."""
    expected = (None, None) if logits is None else logits[:2]
    if weights is not None and len(weights) != 2:
        mend = hints.sequence_weights(weights, logits or (None, None, None), dtype)
        raise ShapeError(f"weights must have the shape [batch, time] = {text(expected)}, got {text(weights)}; {mend}")
    return _pair("weights", weights, expected)


def sample_weight(weights: Shape, logits: Shape) -> None:
    """Weights of sequences, or of tokens; the sizes of the latter are compared with the weights."""
    batch, time = (None, None) if logits is None else logits[:2]
    if weights is not None and not (len(weights) == 1 and hints.agree(weights, (batch,))):
        raise ShapeError(
            f"sample_weight must have the shape [batch] or [batch, time] = {text((batch, time))} of y_pred, "
            f"got {text(weights)}; give a weight to each sequence or to each token"
        )


def _pair(name: str, got: Shape, expected: tuple[Any, ...], logits: Shape = None) -> bool:
    if got == expected and None not in expected:
        return False
    if got is not None and not hints.agree(got, expected):
        if logits is not None:
            _class_axis_last("[batch, time, classes]", logits, name, got)
        mend = hints.EVERY_SIZE
        if hints.agree(got, tuple(reversed(expected))):
            mend = f"it is transposed: swap the two axes of {name}"
        raise ShapeError(
            f"{name} must have the shape [batch, time] = {text(expected)} of logits, got {text(got)}; {mend}"
        )
    return is_open(got, expected)


def _class_axis_last(form: str, logits: tuple[Any, ...], name: str, got: tuple[Any, ...]) -> None:
    """Blame the logits if labels would fit with the classes on another axis."""
    if hints.are_classes_second(got, logits):
        raise ShapeError(
            f"logits must have the shape {form}, got {text(logits)} beside {name} {text(got)}; "
            "if axis 1 holds the classes, move it to the end"
        )


def token_logits(logits: Shape) -> None:
    if logits is not None and len(logits) == 0:
        raise ShapeError("logits must have the shape [..., classes], got []; a single number has no classes")


def token_argument(name: str, got: Shape, logits: Shape, dtype: str | None = None) -> bool:
    """``name`` must have the shape of logits without the class axis. Whether the comparison is left open.

    Labels have a dtype, which says what they are if they have the wrong shape.
    """
    if got is None or logits is None:
        return True
    expected = logits[:-1]
    if len(got) != len(expected) or not hints.agree(got, expected):
        _class_axis_last("[..., classes]", logits, name, got)
        raise ShapeError(
            f"{name} must have the shape {text(expected)} of logits without the class axis, got {text(got)}; "
            f"{hints.tokens(name, got, logits, dtype)}"
        )
    return is_open(got, expected)


def custom_loss(got: Shape, tokens: int | None, form: str) -> bool:
    """The result of a softmax_loss_function, whose shape is ``form`` in words. Whether the comparison is left open."""
    if got is not None and (len(got) != 1 or not hints.agree(got, (tokens,))):
        raise ShapeError(
            f"softmax_loss_function must return one loss per token, the shape {form} = {text((tokens,))}, "
            f"got {text(got)}; do not reduce or keep a class axis inside it"
        )
    return is_open(got, (tokens,))


def cotangent(got: Shape, expected: Shape) -> bool:
    """Whether the comparison is left open."""
    if got is None or expected is None:
        return True
    if len(got) != len(expected) or not hints.agree(got, expected):
        raise ShapeError(
            f"cotangent must have the shape {text(expected)} of the loss, got {text(got)}; nothing is broadcast"
        )
    return is_open(got, expected)


def known_rank(name: str, got: Shape, why: str) -> int:
    if got is None:
        raise ShapeError(f"{name} must have a known rank {why}; set its shape, as with ensure_shape")
    return len(got)


def equal_shape(name: str, got: Shape, main: str, expected: Shape) -> bool:
    """``name`` must have exactly the shape of ``main``. Whether the comparison is left open."""
    if got is None or expected is None:
        return True
    if len(got) != len(expected) or not hints.agree(got, expected):
        raise ShapeError(f"{name} must have the shape {text(expected)} of {main}, got {text(got)}; {hints.EVERY_SIZE}")
    return is_open(got, expected)


def scalar_or_equal_rank(name: str, got: Shape, main: str, expected: Shape, classes: int | None = None) -> None:
    """``name`` must be a scalar, or of the rank of ``main`` with each size 1 or equal. Unknown sizes pass.

    Where ``main`` are ids of so many classes, they can choose from weights of classes.
    """
    if got is None or expected is None or len(got) == 0:
        return
    if len(got) != len(expected) or not all(
        a in (1, None) or b is None or a == b for a, b in zip(got, expected, strict=True)
    ):
        mend = hints.broadcast(name, got, main, expected, classes)
        raise ShapeError(
            f"{name} must be a scalar or have the shape {text(expected)} of {main}, or 1 in place of any size, got "
            f"{text(got)}; {mend}"
        )


def equal_rank_or_one(name: str, got: Shape, main: str, expected: Shape) -> bool:
    """``name`` must have the rank of ``main``, and each of its sizes or 1. Whether the comparison is left open."""
    if got is None or expected is None:
        return True
    if len(got) != len(expected) or not all(
        a in (1, None) or b is None or a == b for a, b in zip(got, expected, strict=True)
    ):
        raise ShapeError(
            f"{name} must have the shape {text(expected)} of {main}, or 1 in place of any size, got {text(got)}; ranks "
            "must be equal, nothing is flattened"
        )
    return is_open(got, expected)


def numpy_trailing(name: str, got: Shape, main: str, expected: Shape) -> None:
    """``name`` must have sizes 1 or those of the last axes of ``main``."""
    if got is None or expected is None:
        return
    # Of the same length: old versions of torch.compile know no zip that is not strict.
    last = expected[max(len(expected) - len(got), 0) :]
    if len(got) > len(expected) or not all(
        a in (1, None) or b is None or a == b for a, b in zip(got, last, strict=True)
    ):
        raise ShapeError(
            f"{name} must have the sizes of the last axes of {main} {text(expected)}, or 1, got {text(got)}; "
            "one weight per class has the shape [classes]"
        )


def rank(name: str, got: Shape, expected: int, form: str) -> None:
    """``name`` must have so many axes, which ``form`` names, as in "[batch, classes]"."""
    if got is not None and len(got) != expected:
        raise ShapeError(f"{name} must have the shape {form}, got {text(got)}; check the order of the axes")


def true_classes(name: str, got: Shape, columns: int) -> None:
    """``name`` must be a matrix with a row for each example and so many columns."""
    if got is None:
        return
    if len(got) != 2:
        mend = f"add the axis of the true classes, as in {name}[:, None]" if len(got) == 1 else "flatten the batch"
        raise ShapeError(f"{name} must have the shape [batch, num_true], got {text(got)}; {mend}")
    if got[1] is not None and got[1] != columns:
        raise ShapeError(f"{name} must have num_true = {columns} columns, got {text(got)}; pass num_true={got[1]}")


def step_targets(name: str, got: Shape, batch: int | None) -> None:
    """The labels of one timestep: any shape with one entry for each sequence."""
    if got is None or batch is None or None in got:
        return
    count = 1
    for size in got:
        count *= size or 0
    if count != batch:
        raise ShapeError(
            f"{name} must have one label for each of the {batch} sequences of logits[0], got {text(got)}; pass lists "
            "with one array [batch] for each timestep"
        )


def step_weights(name: str, got: Shape, batch: int | None) -> None:
    """The weights of one timestep: one for each sequence, or a single one for all."""
    if got is None or len(got) == 0 or (len(got) == 1 and hints.agree(got, (batch,))):
        return
    raise ShapeError(
        f"{name} must be a scalar or have the shape {text((batch,))} of one weight for each sequence of logits[0], got "
        f"{text(got)}; pass lists with one array [batch] for each timestep"
    )


def lengths(got: Shape, batch: int | None, main: str) -> None:
    """The lengths of a padded batch."""
    if got is None or (len(got) == 1 and hints.agree(got, (batch,))):
        return
    mend = "pass one length for each sequence"
    if len(got) == 2:
        mend = "take the last axis off" if got[1] == 1 else "pass a mask of tokens as weights"
    raise ShapeError(f"lengths must have the shape [batch] = {text((batch,))} of {main}, got {text(got)}; {mend}")


def of_classes(name: str, got: Shape, classes: int | None) -> None:
    """One number for each class."""
    if got is not None and not (len(got) == 1 and hints.agree(got, (classes,))):
        raise ShapeError(
            f"{name} must have the shape [classes] = {text((classes,))} of logits, got {text(got)}; "
            "pass one number for each class"
        )


def scalar(name: str, got: Shape) -> None:
    if got:
        raise ShapeError(f"{name} must be a single number, the shape [], got {text(got)}; add it up first")


def hidden(got: Shape) -> None:
    if got is not None and len(got) != 3:
        mend = "packed ones need cu_seqlens" if len(got) == 2 else "see that the axes are these"
        raise ShapeError(f"hidden must have the shape [batch, time, features], got {text(got)}; {mend}")


def kernel(got: Shape, hidden: Shape) -> None:
    """What hidden is multiplied with."""
    features = None if hidden is None else hidden[-1]
    if got is not None and not (len(got) == 2 and hints.agree(got[:1], (features,))):
        mend = "see that it belongs to the same model"
        if len(got) == 2 and hints.agree(got[1:], (features,)):
            mend = "a weight [classes, features], as Linear and Embedding have it, is passed transposed, as kernel.T"
        raise ShapeError(
            f"kernel must have the shape [features, classes] = {text((features, None))} beside hidden, "
            f"got {text(got)}; {mend}"
        )


def bias(got: Shape, kernel: Shape) -> None:
    classes = None if kernel is None else kernel[1]
    if got is not None and not (len(got) == 1 and hints.agree(got, (classes,))):
        raise ShapeError(
            f"bias must have the shape [classes] = {text((classes,))} of the kernel, got {text(got)}; "
            "pass one number for each class"
        )


def of_product(hidden: Shape, kernel: Shape) -> Shape:
    """The shape of the logits."""
    return None if hidden is None else (*hidden[:-1], None if kernel is None else kernel[1])
