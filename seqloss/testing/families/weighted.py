"""The families of the weighted losses of tf.losses: each reduction, each broadcast, and masks that hide NaN."""

from typing import Any, Final

import numpy as np

import seqloss
from seqloss.testing import oracle
from seqloss.testing.families.family import Family
from seqloss.testing.families.reference import Expected, Losses, Slope, binary, soft, sparse, weighted

Array = Any
NONE, MEAN = seqloss.Reduction.NONE, seqloss.Reduction.MEAN
SUM: Final = seqloss.Reduction.SUM
BY_SIZE, BY_NONZERO = seqloss.Reduction.SUM_OVER_BATCH_SIZE, seqloss.Reduction.SUM_BY_NONZERO_WEIGHTS

CLASSES = ("logits", "multi_class_labels")


def _weights(rng: np.random.Generator, *shape: int) -> Array:
    """0.25 … 2, with every third masked."""
    weights = rng.integers(1, 9, shape) / 4
    weights.reshape(-1)[1::3] = 0
    return weights


def _losses(*shape: int) -> Any:
    """Losses of both signs, NaN and infinite where the weight is 0."""

    def build(rng: np.random.Generator) -> list[Array]:
        losses, weights = rng.normal(0, 2, (4, 3)), _weights(rng, *shape)
        hidden = np.argwhere(np.broadcast_to(weights == 0, losses.shape))
        losses[tuple(hidden[0])], losses[tuple(hidden[-1])] = np.nan, np.inf
        return [losses, weights]

    return build


def _sigmoid(key: Any, smoothing: float) -> Any:
    return lambda x, y, w: seqloss.sigmoid_cross_entropy(y, x, w, smoothing, reduction=key)


def _of_losses(key: str) -> Any:
    def expected(losses: Array, weights: Array, cotangent: Array | None = None) -> Expected:
        # Wide at once: NumPy 1 computes an array of half precision and a wide scalar in half precision.
        losses, ones = losses.astype(oracle.WIDE), np.ones(losses.shape)
        given = Losses(losses, np.zeros(losses.shape), (Slope(ones, np.zeros(ones.shape), losses.shape),), 20.0)
        return weighted(given, weights, key, cotangent)

    return expected


def _tokens(rng: np.random.Generator) -> list[Array]:
    """Class ids; padding with NaN logits and label -100, the last token NaN and infinite."""
    logits, labels, weights = rng.normal(0, 2, (3, 4, 5)), rng.integers(0, 5, (3, 4)), _weights(rng, 3, 4)
    logits[weights == 0], labels[weights == 0] = np.nan, -100
    return [logits, labels, weights]


def _squeezed(rng: np.random.Generator) -> list[Array]:
    return [rng.normal(0, 2, (4, 6)), rng.integers(0, 6, (4, 1)), _weights(rng, 4, 1)]


def _one_hot(*shape: int) -> Any:
    """One-hot int32 labels, and NaN logits where the weight is 0."""

    def build(rng: np.random.Generator) -> list[Array]:
        logits, weights = rng.normal(0, 2, (3, 4, 5)), _weights(rng, *shape)
        logits[np.broadcast_to(weights == 0, (3, 4))] = np.nan
        return [logits, np.eye(5, dtype="int32")[rng.integers(0, 5, (3, 4))], weights]

    return build


def _classes(*shape: int) -> Any:
    """Independent classes, and NaN logits where the weight is 0."""

    def build(rng: np.random.Generator) -> list[Array]:
        logits, labels = rng.normal(0, 4, (4, 5)), rng.integers(0, 2, (4, 5)).astype(float)
        if not shape:
            return [logits, labels]
        weights = _weights(rng, *shape)
        logits[np.broadcast_to(weights == 0, (4, 5))] = np.nan
        return [logits, labels, weights]

    return build


def _of_tokens(key: str) -> Any:
    def expected(logits: Array, labels: Array, weights: Array, cotangent: Array | None = None) -> Expected:
        labels = labels.reshape(logits.shape[:-1])
        got = weighted(sparse(logits, labels), weights.reshape(labels.shape), key, cotangent)
        to_logits, to_weights = got.gradients
        return got._replace(
            gradients=(to_logits, to_weights.reshape(weights.shape)),
            scales=(got.scales[0], got.scales[1].reshape(weights.shape)),
        )

    return expected


def _of_one_hot(key: str, smoothing: float) -> Any:
    def expected(logits: Array, labels: Array, weights: Array, cotangent: Array | None = None) -> Expected:
        losses = soft(logits, labels, smoothing=smoothing)
        # The labels are integers.
        return weighted(losses._replace(slopes=losses.slopes[:1]), weights, key, cotangent)

    return expected


def _of_classes(key: str, smoothing: float, constant: float | None = None) -> Any:
    def expected(logits: Array, labels: Array, *weights: Array, cotangent: Array | None = None) -> Expected:
        losses = binary(logits, labels, smoothing=smoothing)
        got = weighted(losses, weights[0] if weights else np.asarray(constant), key, cotangent)
        return got if weights else got._replace(gradients=got.gradients[:-1], scales=got.scales[:-1])

    return expected


ROWS = (
    *(
        Family(
            f"compute_weighted_loss-{name}",
            "compute_weighted_loss",
            ("losses", "weights"),
            _losses(*shape),
            lambda x, w, key=key: seqloss.compute_weighted_loss(x, w, reduction=key),
            _of_losses(key),
            (0, 1),
        )
        for name, key, shape in (
            ("none", NONE, (4, 3)),
            ("sum", SUM, (4, 1)),
            ("mean", MEAN, (4, 3)),
            ("by_size", BY_SIZE, (1, 3)),
            ("by_nonzero", BY_NONZERO, (4, 1)),
        )
    ),
    *(
        Family(
            f"softmax_cross_entropy-{name}",
            "softmax_cross_entropy",
            ("logits", "onehot_labels", "weights"),
            _one_hot(*shape),
            lambda z, y, w, key=key, a=smoothing: seqloss.softmax_cross_entropy(y, z, w, a, reduction=key),
            _of_one_hot(key, smoothing),
            (0, 2),
        )
        for name, key, shape, smoothing in (
            ("smoothed_mean", MEAN, (3, 1), 0.1),
            ("by_nonzero", BY_NONZERO, (3, 4), 0.0),
        )
    ),
    *(
        Family(
            f"sparse_softmax_cross_entropy-{name}",
            "sparse_softmax_cross_entropy",
            ("logits", "labels", "weights"),
            build,
            lambda z, y, w, key=key: seqloss.sparse_softmax_cross_entropy(y, z, w, reduction=key),
            _of_tokens(key),
            (0, 2),
            refusals=refusals,
        )
        for name, key, build, refusals in (
            ("by_nonzero", BY_NONZERO, _tokens, {}),
            ("by_size", BY_SIZE, _tokens, {}),
            # Whether labels have an axis too many is for a rank to tell.
            (
                "squeezed",
                NONE,
                _squeezed,
                {"function-unknown-rank": ("InvalidArgumentError", "labels must have the shape of logits without")},
            ),
        )
    ),
    *(
        Family(
            f"sigmoid_cross_entropy-{name}",
            "sigmoid_cross_entropy",
            (*CLASSES, "weights"),
            _classes(4, 1),
            _sigmoid(key, smoothing),
            _of_classes(key, smoothing),
            (0, 1, 2),
        )
        for name, key, smoothing in (("smoothed_mean", MEAN, 0.1), ("by_nonzero", BY_NONZERO, 0.0))
    ),
    Family(
        "sigmoid_cross_entropy-constant_sum",
        "sigmoid_cross_entropy",
        CLASSES,
        _classes(),
        lambda x, y: seqloss.sigmoid_cross_entropy(y, x, 0.5, reduction=SUM),
        _of_classes(SUM, 0.0, 0.5),
        (0, 1),
    ),
)
"""Every function of ``tf.losses``; each of the five reductions is in more than one row."""
