"""What the functions must return, from their formulas in wide floats, without a line of the library.

:class:`Losses` are single losses with their slopes. :func:`unreduced`, :func:`weighted` and :func:`averaged` make of
them a value with its gradients for a cotangent, each with the size of what was added up, which rounding errors are
proportional to.
"""

from typing import Any, NamedTuple

import numpy as np

from seqloss.testing import oracle, tolerances

Array = Any


class Slope(NamedTuple):
    """The derivative of each loss by an argument, in the shape that the argument is broadcast to."""

    value: Array
    scale: Array
    shape: tuple[int, ...]
    """That of the argument."""
    axis: int | None = None
    """The axis of the classes, which the losses lack."""


class Losses(NamedTuple):
    """Losses in nats, and how they change with the arguments."""

    nll: Array
    scale: Array
    slopes: tuple[Slope, ...]
    bound: float
    """What the table of tolerances allows, in ULP."""


class Expected(NamedTuple):
    """A value and the gradients of the differentiable arguments, in their order."""

    value: Array
    scale: Array
    gradients: tuple[Array, ...]
    scales: tuple[Array, ...]
    bound: float = tolerances.TIGHT_ULPS
    roundings: tuple[float, ...] = ()
    """How often each gradient is rounded where it has half precision, if that is more than once."""


def summed_to(x: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of what was broadcast: summed over the axes that it did not have, or had in size 1."""
    x = x.sum(tuple(range(x.ndim - len(shape))))
    return x.sum(tuple(i for i, size in enumerate(shape) if size == 1 != x.shape[i]), keepdims=True).reshape(shape)


def _pulled(slope: Slope, upstream: Array) -> tuple[Array, Array]:
    """The gradient of an argument and its scale. A cotangent of 0 removes NaN too."""
    up = upstream if slope.axis is None else np.expand_dims(upstream, slope.axis)
    with np.errstate(all="ignore"):
        gradient, scale = (u * np.where(up == 0, 0, x) for u, x in ((up, slope.value), (abs(up), slope.scale)))
    return summed_to(gradient, slope.shape), summed_to(scale, slope.shape)


def unreduced(losses: Losses, cotangent: Array | None) -> Expected:
    """The losses as they are."""
    up = np.ones(losses.nll.shape) if cotangent is None else np.asarray(cotangent).astype(oracle.WIDE)
    pairs = [_pulled(slope, up) for slope in losses.slopes]
    return Expected(losses.nll, losses.scale, *_transposed(pairs), losses.bound)


def weighted(losses: Losses, weights: Array, key: str, cotangent: Array | None) -> Expected:
    """The reductions of tf.losses. The last gradient is that of the weights."""
    w = np.asarray(weights).astype(oracle.WIDE)
    shape, dead = w.shape, np.abs(w) < 2.0**-126
    w, dead = (np.broadcast_to(x, losses.nll.shape) for x in (np.where(dead, 0, w), dead))
    sizes = np.maximum(losses.scale, abs(losses.nll))
    nll, scale = (np.where(dead & ~np.isfinite(losses.nll), 0, x) for x in (losses.nll, sizes))
    denominator = {
        "none": oracle.WIDE(1),
        "weighted_sum": oracle.WIDE(1),
        "weighted_mean": w.sum(),
        "weighted_sum_over_batch_size": oracle.WIDE(nll.size),
        "weighted_sum_by_nonzero_weights": (~dead).sum().astype(oracle.WIDE),
    }[key]
    condition = abs(w).sum() / abs(denominator) if key == "weighted_mean" else oracle.WIDE(0)
    terms, sizes = w * nll / denominator, abs(w) * scale / abs(denominator)
    value, size = (terms, sizes) if key == "none" else (terms.sum(), sizes.sum() * (1 + condition))
    up = (np.ones(()) if cotangent is None else np.asarray(cotangent).astype(oracle.WIDE)) / denominator
    up = np.broadcast_to(up, nll.shape)
    moved = value if key == "weighted_mean" else 0
    pairs = [_pulled(slope, up * w) for slope in losses.slopes]
    own = abs(up) * (scale + (size if key == "weighted_mean" else 0)) * (1 + condition)
    pairs.append((summed_to(up * (nll - moved), shape), summed_to(own, shape)))
    return Expected(value, size, *_transposed(pairs), losses.bound)


def averaged(
    losses: Losses, weights: Array, over_time: bool, over_batch: bool | None, cotangent: Array | None
) -> Expected:
    """The reductions of legacy_seq2seq on [time, batch]; over_batch None: a loss for each example."""
    w = np.asarray(weights).astype(oracle.WIDE)
    dead = np.abs(w) < 2.0**-126
    w, nll = np.where(dead, 0, w), np.where(dead & ~np.isfinite(losses.nll), 0, losses.nll)
    scale = np.where(np.isfinite(nll), abs(nll), 0)
    denominator = w.sum(0) + oracle.WIDE("1e-12") if over_time else np.ones(w.shape[1], oracle.WIDE)
    by_example, sizes = (w * nll).sum(0) / denominator, (abs(w) * scale).sum(0) / abs(denominator)
    value, size, up = by_example, sizes, 1 / denominator
    if over_batch is not None:
        batch = w.shape[1] if over_batch else 1
        value, size, up = by_example.sum() / batch, sizes.sum() / batch, up / batch
    up = up * (1 if cotangent is None else np.asarray(cotangent).astype(oracle.WIDE))
    pairs = [_pulled(slope, up * w) for slope in losses.slopes]
    moved, more = (by_example, sizes) if over_time else (0, 0)
    pairs.append((up * (nll - moved), abs(up) * (scale + more)))
    return Expected(value, size, *_transposed(pairs), losses.bound)


def _transposed(pairs: list[tuple[Array, Array]]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    return tuple(gradient for gradient, _ in pairs), tuple(scale for _, scale in pairs)


# --- losses ------------------------------------------------------------------------------------------------------


def sparse(logits: Array, labels: Array) -> Losses:
    """log(sum_j exp(z_j)) - z_y."""
    nll, slope = oracle.tokens(logits, labels)
    bound = float(tolerances.token_bound(logits).max(initial=tolerances.TIGHT_ULPS))
    return Losses(nll, np.zeros(nll.shape), (Slope(slope, np.zeros(slope.shape), slope.shape, -1),), bound)


def soft(logits: Array, labels: Array, axis: int = -1, smoothing: float = 0.0) -> Losses:
    """sum_j y_j (log(sum_k exp(z_k)) - z_j), with labels y (1 - smoothing) + smoothing / classes."""
    z = np.moveaxis(np.asarray(logits), axis, -1)
    given = np.asarray(labels).astype(oracle.WIDE)
    y = np.moveaxis(np.broadcast_to(given, np.shape(logits)), axis, -1)
    y = y * (1 - oracle.WIDE(smoothing)) + oracle.WIDE(smoothing) / z.shape[-1]
    got = oracle.soft_tokens(z, y)
    with np.errstate(all="ignore"):
        softmax = np.exp(-got.dlabels.astype(oracle.WIDE))
    # Zeros and ones are added up without rounding, other labels are not.
    is_rounded = (smoothing != 0) | ~np.isin(y, (0, 1)).all(-1, keepdims=True)
    size = got.dlogits_scale + is_rounded * (abs(y).sum(-1, keepdims=True) * softmax + abs(y))
    to_labels = got.dlabels * (1 - oracle.WIDE(smoothing))
    arrays = [np.moveaxis(x, -1, axis) for x in (got.dlogits, size, to_labels)]
    slopes = (
        Slope(arrays[0], arrays[1], arrays[0].shape, axis),
        Slope(arrays[2], np.zeros(arrays[2].shape), given.shape, axis),
    )
    bound = float(tolerances.token_bound(z).max(initial=tolerances.TIGHT_ULPS))
    return Losses(got.nll, got.nll_scale, slopes, bound)


def binary(logits: Array, labels: Array, pos_weight: Array | None = None, smoothing: float = 0.0) -> Losses:
    """-q y log(s) - (1 - y) log(1 - s), with labels y (1 - smoothing) + smoothing / 2."""
    shape = np.shape(logits)
    y = np.asarray(labels).astype(oracle.WIDE) * (1 - oracle.WIDE(smoothing)) + oracle.WIDE(smoothing) / 2
    q = np.ones(()) if pos_weight is None else np.asarray(pos_weight)
    got = oracle.binary_entries(logits, y, q)
    # What smoothing rounds in y is no less in 1 - y.
    rounded = 1 + abs(y / (1 - y)) if smoothing else 1
    slopes = [
        Slope(got.dlogits, got.dlogits_scale * rounded, shape),
        Slope(got.dlabels * (1 - oracle.WIDE(smoothing)), got.dlabels_scale, shape),
    ]
    if pos_weight is not None:
        slopes.append(Slope(got.dpos_weight, abs(got.dpos_weight), q.shape))
    return Losses(got.nll, got.nll_scale * rounded, tuple(slopes), tolerances.TIGHT_ULPS)
