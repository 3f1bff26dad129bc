"""Parts of messages: how to fix an array of the wrong shape, by what people probably meant; and values.

Pure Python on sizes and names of dtypes, as in :mod:`seqloss.core.shapes`, which asks when a check has failed. A size
that is unknown while tracing is ``None`` and could be any.
"""

from operator import index
from typing import Any

Sizes = tuple[Any, ...]

EVERY_SIZE = "every size must match, nothing is broadcast"
ONE_LABEL = "pass one label per token"
ARGMAX = "turn one-hot {0} into labels with argmax over the last axis"
BY_CLASS = (
    "for one weight per class, look up the weight of each label, as in {0}[{1}] (tf.gather({0}, {1}) in TensorFlow)"
)


def shown(value: Any) -> str:
    """``repr(value)``. torch.compile formats no number that is symbolic, which these conversions make a constant."""
    if type(value) is int:
        return f"{index(value)}"
    if type(value) is tuple or type(value) is list:
        inner = ", ".join([shown(x) for x in value])
        if type(value) is list:
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return f"{float(value)}" if type(value) is float else f"{value!r}"


def agree(one: Sizes, other: Sizes) -> bool:
    """Whether two shapes of one rank could be the same."""
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def _may_be(size: Any, other: Any) -> bool:
    return size is None or other is None or size == other


def sequence_logits(got: Sizes) -> str:
    """Logits that do not have three axes."""
    if len(got) == 1:
        return "for a single token use seqloss.token_loss"
    if len(got) == 2:
        return (
            "for packed sequences [tokens, classes] pass cu_seqlens, where each one begins; for a single sequence add "
            "a batch axis to all arguments, as in logits[None]"
        )
    if len(got) > 3:
        return "for more axes, such as several codebooks, use seqloss.token_loss"
    return "pass the axes in the order batch, time, classes"


def sequence_targets(got: Sizes, logits: Sizes, dtype: str) -> str:
    """Targets that do not have two axes, with logits [batch, time, classes]."""
    batch, time, classes = logits
    if len(got) == 3:
        if got[-1] != 1 and _may_be(got[-1], classes):
            return f"{ARGMAX.format('targets')}; soft targets must be floats"
        return with_classes("targets", got, classes, dtype, "") or ONE_LABEL
    if len(got) != 1:
        return ONE_LABEL
    if _may_be(batch, 1) and _may_be(got[0], time):
        return "add a batch axis, as in targets[None]"
    if _may_be(got[0], None if batch is None or time is None else batch * time):
        return "reshape them to [batch, time]"
    return ONE_LABEL


def with_classes(name: str, got: Sizes, classes: Any, dtype: str | None, soft: str) -> str | None:
    """Labels that have one axis more than they should; None if that cannot be an axis of classes.

    For an array that is not labels, dtype is None.
    """
    if got[-1] == 1:
        return f"remove the last axis, as in {name}[..., 0]"
    if dtype is None or not _may_be(got[-1], classes):
        return None
    return soft if dtype.startswith(("float", "bfloat")) else ARGMAX.format(name)


def sequence_weights(got: Sizes, logits: Sizes, dtype: str) -> str:
    """Weights that do not have two axes, with logits [batch, time, classes]."""
    if len(got) == 0:
        return "for one weight for all tokens, multiply the loss by it"
    if len(got) == 3 and got[-1] == 1:
        return "remove the last axis, as in weights[..., 0]"
    if len(got) != 1:
        return "pass one weight per token"
    return "; ".join(_vectors(got[0], logits, dtype)) or "pass one weight per token"


def _vectors(size: Any, logits: Sizes, dtype: str) -> list[str]:
    """What a vector of weights may be meant as."""
    batch, time, classes = logits
    found = []
    if _may_be(size, batch):
        if dtype.startswith(("int", "uint")):
            found.append("if these are lengths, pass them as lengths=... to seqloss.sequence_loss")
        found.append("for one weight per sequence, repeat weights[:, None] along the time axis")
    if _may_be(size, classes):
        found.append(BY_CLASS.format("weights", "targets"))
    if found:
        return found
    if _may_be(size, time):
        return ["for one weight per position, repeat weights[None, :] along the batch axis"]
    # Both are known: else it could be one of them.
    return ["reshape them to [batch, time]"] if size == batch * time else []


def tokens(name: str, got: Sizes, logits: Sizes, dtype: str | None) -> str:
    """Labels, or anything else with one entry per token, beside logits [..., classes]."""
    if len(got) == len(logits):
        soft = "for probabilities use seqloss.softmax_cross_entropy_with_logits"
        return with_classes(name, got, logits[-1], dtype, soft) or EVERY_SIZE
    return EVERY_SIZE


def are_classes_second(got: Sizes, logits: Sizes) -> bool:
    """Whether labels fit logits whose classes are on axis 1, where PyTorch's own loss has them."""
    return len(logits) > 2 and len(got) == len(logits) - 1 and agree(got, logits[:1] + logits[2:])


def broadcast(name: str, got: Sizes, main: str, expected: Sizes, classes: Any) -> str:
    """Weights that cannot be broadcast to losses. If ``main`` are ids, ``classes`` is how many classes there are."""
    if len(got) == 1 and classes is not None and got[0] == classes:
        return BY_CLASS.format(name, main)
    if len(got) == len(expected):
        return "each size must be the same or 1"
    return "add axes of size 1 until the ranks are equal"
