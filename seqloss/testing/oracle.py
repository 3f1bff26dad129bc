"""The reference: the documented semantics written down a second time, without a line of the library.

NumPy alone, in the widest float it has (80 bits on x86), plain formulas, one array of size [..., classes] after the
other. It is slow and large on purpose: it has to be right by inspection. The formulas are those of
docs/semantics.md; mpmath checks this module in the tests. NaN, of which there is a lot in padding, is kept out of the
arithmetic: in 80 bits that takes up to sixty times as long with it.
"""

from typing import Any, NamedTuple

import numpy as np

Array = Any

WIDE = np.longdouble


class Tokens(NamedTuple):
    """Loss in nats and its derivative of each token; both NaN where the token has no loss."""

    nll: Array
    slope: Array


class SoftTokens(NamedTuple):
    """Loss in nats of each token against soft labels, its derivatives, and the sizes of what was added up."""

    nll: Array
    dlogits: Array
    dlabels: Array
    nll_scale: Array
    dlogits_scale: Array


class BinaryEntries(NamedTuple):
    """Loss in nats of each entry for itself, its derivatives, and the sizes of what was added up."""

    nll: Array
    dlogits: Array
    dlabels: Array
    dpos_weight: Array
    nll_scale: Array
    dlogits_scale: Array
    dlabels_scale: Array


class Reduced(NamedTuple):
    """A reduced loss with its gradients for a cotangent, and the sizes of the numbers that were added up.

    A difference is judged against the scale, because rounding errors are proportional to the summands and not to
    what their sum happens to cancel to.
    """

    loss: Array
    dlogits: Array
    dweights: Array
    loss_scale: Array
    dweights_scale: Array


def tokens(logits: Array, targets: Array) -> Tokens:
    """nll = log(sum_j exp(z_j)) - z_y and its gradient softmax - onehot, arranged so that nothing cancels."""
    z = np.asarray(logits).astype(WIDE)
    y = np.asarray(targets).astype(np.int64)
    classes = z.shape[-1]
    legal = (y >= 0) & (y < classes) & ~np.isnan(z).any(-1)
    z = np.where(legal[..., None], z, 0)
    at_target = np.arange(classes) == np.where(legal, y, 0)[..., None]
    with np.errstate(all="ignore"):
        highest = z.max(-1, keepdims=True)
        legal &= np.isfinite(highest[..., 0])
        e = np.exp(z - highest)
        others = np.where(at_target, 0, e).sum(-1, keepdims=True)
        own = np.where(at_target, e, 0).sum(-1, keepdims=True)
        gap = (highest - np.where(at_target, z, -np.inf).max(-1, keepdims=True))[..., 0]
        nll = np.where(gap == 0, np.log1p(others[..., 0]), gap + np.log((others + own)[..., 0]))
        slope = np.where(at_target, -others, e) / (others + own)
    return Tokens(np.where(legal, nll, np.nan), np.where(legal[..., None], slope, np.nan))


def soft_tokens(logits: Array, labels: Array, mass: Array | None = None) -> SoftTokens:
    """nll = sum_j y_j (log(sum_k exp(z_k)) - z_j), with 0 times infinity = 0, and mass softmax - y for logits.

    ``mass`` [...] is the sum of the labels unless it is given.
    """
    z, y = np.asarray(logits).astype(WIDE), np.asarray(labels).astype(WIDE)
    mass = (y.sum(-1) if mass is None else np.asarray(mass).astype(WIDE))[..., None]
    known: Array = ~np.isnan(z).any(-1, keepdims=True)
    z = np.where(known, z, 0)
    with np.errstate(all="ignore"):
        highest = z.max(-1, keepdims=True)
        legal = known & np.isfinite(highest)
        first = np.arange(z.shape[-1]) == z.argmax(-1)[..., None]
        e = np.exp(z - highest)
        others = np.where(first, 0, e).sum(-1, keepdims=True)
        costs = (highest - z) + np.log1p(others)
        terms = np.where(y == 0, 0, y * costs)
        # At the highest class both may be near 1, and their difference is that of what they lack to it.
        around_1 = first & (2 * abs(y) > abs(mass))
        p, q = e / (1 + others), others / (1 + others)
        dlogits = np.where(around_1, (mass - y) - mass * q, mass * p - y)
        scale = np.where(around_1, abs(mass - y) + abs(mass) * q, abs(mass) * p + abs(y))
    nll = np.where(legal[..., 0], terms.sum(-1), np.nan)
    dlogits, dlabels = (np.where(legal, x, np.nan) for x in (dlogits, costs))
    nll_scale, scale = np.where(known[..., 0], abs(terms).sum(-1), np.nan), np.where(known, scale, np.nan)
    return SoftTokens(nll, dlogits, dlabels, nll_scale, scale)


def binary_entries(logits: Array, labels: Array, pos_weight: Array = 1.0) -> BinaryEntries:
    """nll = -(1 - y) log(1 - s) - q y log(s) with s = 1 / (1 + exp(-x)), and 0 times infinity = 0."""
    x, y, q = (np.asarray(a).astype(WIDE) for a in (logits, labels, pos_weight))
    known = ~np.isnan(x)
    x = np.where(known, x, 0)
    with np.errstate(all="ignore"):
        e = np.exp(-abs(x))
        up, down = np.where(x >= 0, 1, e) / (1 + e), np.where(x >= 0, e, 1) / (1 + e)
        rise, fall = np.maximum(x, 0) + np.log1p(e), np.maximum(-x, 0) + np.log1p(e)

        def times(factor: Array, value: Array) -> Array:
            return np.where((factor == 0) & ~np.isnan(value), 0, factor * value)

        one, other = times(1 - y, rise), times(q * y, fall)
        dlogits = (1 - y) * up - q * y * down
        # q fall - rise, whose large parts cancel for every q, with the common log1p(e) taken out.
        small, large = (q - 1) * np.log1p(e), times(np.where(x < 0, q, 1), x)
        dlabels, dlabels_scale, dpos_weight = small - large, abs(small) + abs(large), times(y, fall)
        scales = abs(one) + abs(other), abs(1 - y) * up + abs(q * y) * down, dlabels_scale
    entries = (one + other, dlogits, dlabels, dpos_weight, *scales)
    return BinaryEntries(*(np.where(known, entry, np.nan) for entry in entries))


def sequence_loss(
    logits: Array,
    targets: Array,
    weights: Array,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    cotangent: Array | None = None,
) -> Reduced:
    """The reduction of docs/semantics.md on the wide token losses, with every gradient.

    ``weights`` must have the dtype that the library computes in: the cast to it is part of the semantics.
    """
    nll, slope = tokens(logits, targets)
    w = np.asarray(weights).astype(WIDE)
    dead = np.abs(w) < 2.0**-126
    w = np.where(dead, 0, w)
    nll = np.where(dead & ~np.isfinite(nll), 0, nll)
    axis = (0,) * (average_across_batch or sum_over_batch) + (1,) * (average_across_timesteps or sum_over_timesteps)
    averages = average_across_batch or average_across_timesteps
    counts = sum_over_batch or sum_over_timesteps
    with np.errstate(all="ignore"):
        if averages:
            denominator = w.sum(axis, keepdims=True)
            condition = np.abs(w).sum(axis, keepdims=True) / np.abs(denominator)
        elif counts:
            denominator = (~dead).sum(axis, keepdims=True).astype(WIDE)
            condition = np.zeros_like(denominator)
        else:
            denominator, condition = np.ones_like(w), np.zeros_like(w)
        empty = denominator == 0

        def divided(x: Array) -> Array:
            return np.where(empty, 0, x / np.where(empty, 1, denominator))

        loss = divided((nll * w).sum(axis, keepdims=True) if axis else nll * w)
        scale = divided((np.abs(nll * w)).sum(axis, keepdims=True) if axis else np.abs(nll * w))
        scale = np.abs(scale) + np.where(empty, 0, np.abs(loss) * condition)
        shape = np.squeeze(loss, axis).shape if axis else loss.shape
        upstream = np.ones(shape, WIDE) if cotangent is None else np.asarray(cotangent).astype(WIDE)
        upstream = divided(upstream.reshape(loss.shape) * np.ones_like(denominator))
        dlogits = np.where(dead[..., None], 0, (upstream * w)[..., None] * slope)
        dweights = upstream * (nll - loss if averages else nll)
        dweights_scale = np.abs(upstream) * (np.abs(nll) + (scale if averages else 0)) * (1 + condition)
    dweights_scale = np.where(empty, 0, dweights_scale)
    return Reduced(loss.reshape(shape), dlogits, dweights, scale.reshape(shape), dweights_scale)
