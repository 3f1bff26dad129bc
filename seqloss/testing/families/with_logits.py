"""The families of the cross entropies from logits, without weights."""

from typing import Any

import numpy as np

import seqloss
from seqloss.testing.families.family import Family
from seqloss.testing.families.reference import Expected, binary, soft, sparse, unreduced

Array = Any
LOGITS_AND_LABELS = ("logits", "labels")
UNKNOWN_RANK = "function-unknown-rank"


def _ids(*shape: int) -> Any:
    def build(rng: np.random.Generator) -> list[Array]:
        return [rng.normal(0, 2, shape), rng.integers(0, shape[-1], shape[:-1])]

    return build


def _sure(rng: np.random.Generator) -> list[Array]:
    """Tokens whose target leads by 25, where lse - t and p - 1 cancel, beside one that is wrong."""
    logits, labels = rng.normal(0, 1, (4, 6)), np.array([0, 3, 5, 2])
    logits[np.arange(4), labels] = [25, 18, 25, -6]
    return [logits, labels]


def _soft(kind: str, *shape: int, labels_shape: tuple[int, ...] = (), axis: int = -1) -> Any:
    """Logits and labels: probabilities, quantities of any sum beside impossible classes, or one-hot rows."""

    def build(rng: np.random.Generator) -> list[Array]:
        logits, labels = rng.normal(0, 2, shape), rng.integers(1, 9, labels_shape or shape) / 8
        if kind == "probabilities":
            labels = labels / labels.sum(axis, keepdims=True)
        if kind == "impossible":
            labels[..., 1], logits[..., 1] = 0, -np.inf
        if kind == "sure":
            labels = np.eye(shape[-1])[np.arange(shape[0]) % shape[-1]]
            logits = logits + 25 * labels
        return [logits, labels]

    return build


def _entries(*shape: int, pos_weight: tuple[int, ...] | None = None) -> Any:
    """Logits from wrong and sure to right and sure; labels with zeros and ones, and some between and beyond."""

    def build(rng: np.random.Generator) -> list[Array]:
        logits = np.linspace(-30, 30, int(np.prod(shape))).reshape(shape)
        labels = np.array([0, 1, 0.25, 1.5])[rng.integers(0, 4, shape)]
        return [logits, labels] if pos_weight is None else [logits, labels, rng.integers(1, 9, pos_weight) / 4]

    return build


def _of_ids(logits: Array, labels: Array, cotangent: Array | None = None) -> Expected:
    return unreduced(sparse(logits, labels), cotangent)


def _of_soft(axis: int = -1) -> Any:
    def expected(logits: Array, labels: Array, cotangent: Array | None = None) -> Expected:
        return unreduced(soft(logits, labels, axis), cotangent)

    return expected


def _of_entries(logits: Array, labels: Array, *pos_weight: Array, cotangent: Array | None = None) -> Expected:
    return unreduced(binary(logits, labels, *pos_weight), cotangent)


def _of_constant(logits: Array, labels: Array, cotangent: Array | None = None) -> Expected:
    losses = binary(logits, labels, np.asarray(2.5))
    return unreduced(losses._replace(slopes=losses.slopes[:2]), cotangent)


def _softmax(name: str, build: Any, axis: int = -1) -> Family:
    needs_rank = {UNKNOWN_RANK: ("ShapeError", "axis")} if axis != -1 else {}
    return Family(
        f"softmax_with_logits-{name}",
        "softmax_cross_entropy_with_logits",
        LOGITS_AND_LABELS,
        build,
        lambda z, y: seqloss.softmax_cross_entropy_with_logits(y, z, axis=axis),
        _of_soft(axis),
        (0, 1),
        refusals=needs_rank,
    )


ROWS = (
    *(
        Family(
            f"sparse_softmax_with_logits-{name}",
            "sparse_softmax_cross_entropy_with_logits",
            LOGITS_AND_LABELS,
            build,
            lambda z, y: seqloss.sparse_softmax_cross_entropy_with_logits(y, z),
            _of_ids,
        )
        for name, build in (("batch_time", _ids(3, 4, 5)), ("single", _ids(7)), ("sure", _sure))
    ),
    _softmax("probabilities", _soft("probabilities", 2, 3, 5)),
    _softmax("any_sum", _soft("quantities", 4, 6)),
    _softmax("impossible", _soft("impossible", 4, 6)),
    _softmax("sure", _soft("sure", 4, 6)),
    _softmax("broadcast", _soft("probabilities", 4, 5, labels_shape=(1, 5))),
    _softmax("axis_1", _soft("probabilities", 2, 5, 3, axis=1), axis=1),
    _softmax("axis_minus_2", _soft("quantities", 5, 3), axis=-2),
    Family(
        "sigmoid_with_logits",
        "sigmoid_cross_entropy_with_logits",
        LOGITS_AND_LABELS,
        _entries(3, 7),
        lambda x, y: seqloss.sigmoid_cross_entropy_with_logits(y, x),
        _of_entries,
        (0, 1),
    ),
    Family(
        "weighted_with_logits-constant",
        "weighted_cross_entropy_with_logits",
        LOGITS_AND_LABELS,
        _entries(3, 7),
        lambda x, y: seqloss.weighted_cross_entropy_with_logits(y, x, 2.5),
        _of_constant,
        (0, 1),
    ),
    Family(
        "weighted_with_logits-of_classes",
        "weighted_cross_entropy_with_logits",
        (*LOGITS_AND_LABELS, "pos_weight"),
        _entries(3, 7, pos_weight=(7,)),
        lambda x, y, q: seqloss.weighted_cross_entropy_with_logits(y, x, q),
        _of_entries,
        (0, 1, 2),
        # It goes with the last axes, which only a rank can tell.
        refusals={UNKNOWN_RANK: ("InvalidArgumentError", "pos_weight must have the sizes of the last axes")},
    ),
)
"""Every function of ``tf.nn`` that takes logits and labels."""
