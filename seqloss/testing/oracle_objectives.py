"""The reference for the options of a loss: the definition written down literally, without a line of the library.

For the logits ``x`` of a token behind their cap, its label or soft labels ``y``, and the class weights ``cw``::

    u_j  = prior_j / sum_A prior      on A, 0 elsewhere; u = y where that sum is 0
    A    = the possible classes but those excluded, and, off target, but the label
    Q_j  = (1 - eps) y_j + eps u_j
    v    = sum_j y_j cw_j, or 1 without class weights
    loss = sum_j Q_j cw_j (L - x_j) - h + v z_loss L**2          with L = log sum_j exp(x_j), and 0 times infinity 0

``h``, the entropy of what is smoothed, is taken off where the smoothing is centred; it is 0 where nothing is smoothed::

    h    = -((1 - eps) log(1 - eps) + sum_j eps u_j log(eps u_j))                    with 0 log 0 = 0
"""

from typing import Any, NamedTuple

import numpy as np

from seqloss.testing import oracle
from seqloss.testing.oracle import WIDE
from seqloss.testing.oracle_statistics import capped

Array = Any


class Objective(NamedTuple):
    """What of a token is added up."""

    eps: float = 0.0
    off_target: bool = False
    centred: bool = False
    exclude: tuple[int, ...] = ()
    prior: Array | None = None
    class_weights: Array | None = None
    z_loss: float = 0.0
    softcap: float | None = None


class Losses(NamedTuple):
    """The loss of each token, what it counts for in a mean, and the derivatives of both."""

    loss: Array
    units: Array
    dlogits: Array
    dlabels: Array
    dunits: Array
    """The derivative of the units by soft labels."""
    loss_scale: Array
    """The sizes of what was added up in the loss, and in the gradient."""
    dlogits_scale: Array


def tokens(logits: Array, labels: Array, objective: Objective) -> Losses:
    """For integer labels [...] or soft ones [..., classes]; all NaN where a row or a label is bad."""
    x, slope = capped(logits, objective.softcap)
    classes = x.shape[-1]
    y, known = _distribution(labels, x.shape)
    cw = np.ones(classes, WIDE) if objective.class_weights is None else np.asarray(objective.class_weights).astype(WIDE)
    eps = WIDE(objective.eps)
    u, is_empty = _uniform(x, y, objective)
    q = (1 - eps) * y + eps * u
    soft = oracle.soft_tokens(x, q * cw)
    # What weight 0 removes although its label is none counts as one.
    is_weighted = objective.class_weights is not None
    units = np.where(known, (y * cw).sum(-1), 1) if is_weighted else np.ones(known.shape, WIDE)
    dunits = np.broadcast_to(cw if is_weighted else 0 * cw, x.shape)
    with np.errstate(all="ignore"):
        highest = x.max(-1, keepdims=True)
        e = np.exp(x - highest)
        lse, p = (highest + np.log(e.sum(-1, keepdims=True)))[..., 0], e / e.sum(-1, keepdims=True)
        entropy = _entropy(u, eps) if objective.centred else np.zeros(units.shape, WIDE)
        entropy = np.where(is_empty, 0, entropy)
        penalty = units * WIDE(objective.z_loss) * lse**2
        to_lse = 2 * units * WIDE(objective.z_loss) * lse
        loss = soft.nll - entropy + penalty
        dlogits = (soft.dlogits + to_lse[..., None] * p) * slope
        # Of what is smoothed the labels have their part; where there is nothing to smooth with, all of it.
        part = np.where(is_empty[..., None], 1, 1 - eps)
        dlabels = part * np.where(cw == 0, 0, cw * soft.dlabels) + dunits * (WIDE(objective.z_loss) * lse**2)[..., None]
        scale = soft.nll_scale + abs(entropy) + abs(penalty)
        dlogits_scale = (soft.dlogits_scale + abs(to_lse)[..., None] * p) * slope
    good = known & np.isfinite(highest[..., 0])
    loss, scale = (np.where(good, a, np.nan) for a in (loss, scale))
    dlogits, dlogits_scale, dlabels = (np.where(good[..., None], a, np.nan) for a in (dlogits, dlogits_scale, dlabels))
    return Losses(loss, units, dlogits, dlabels, dunits, scale, dlogits_scale)


def _distribution(labels: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Labels as [..., classes], and where they are any."""
    labels = np.asarray(labels)
    if labels.dtype.kind == "f":
        return labels.astype(WIDE), (labels >= 0).all(-1)
    known = (labels >= 0) & (labels < shape[-1])
    return (np.arange(shape[-1]) == labels[..., None]).astype(WIDE), known


def _uniform(x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
    """u, what the labels are smoothed with, and where there is nothing to smooth with."""
    prior = np.ones(x.shape[-1]) if objective.prior is None else np.asarray(objective.prior)
    allowed = x > -np.inf
    allowed[..., list(objective.exclude)] = False
    if objective.off_target:
        allowed &= y == 0
    given = np.where(allowed, prior.astype(WIDE), 0)
    total = given.sum(-1, keepdims=True)
    return np.where(total == 0, y, given / np.where(total == 0, 1, total)), total[..., 0] == 0


def _entropy(u: Array, eps: Any) -> Array:
    def times_log(a: Array) -> Array:
        return np.where(a == 0, 0, a * np.log(np.where(a == 0, 1, a)))

    return -(times_log(1 - eps) + times_log(eps * u).sum(-1))


_AXIS = {"none": (), "per_sequence": 1, "sequence_mean": 1, "sum_time": 1, "sum_batch": 0}


class Averaged(NamedTuple):
    """The loss of a batch, its gradients for a cotangent, and the sizes of what was added up in each."""

    loss: Array
    dlogits: Array
    dweights: Array
    dtargets: Array
    """The gradient of soft labels."""
    loss_scale: Array
    dlogits_scale: Array
    dweights_scale: Array
    dtargets_scale: Array


def averaged(
    of: Losses,
    weights: Array,
    kept: Array,
    objective: Objective,
    reduction: str,
    normalizer: float | None = None,
    cotangent: Array | float = 1.0,
) -> Averaged:
    """Token losses [batch, time] reduced.

    Parameters
    ----------
    weights : array of shape [batch, time]
        In the dtype of the loss.
    kept : bool array of shape [batch, time]
        False where a token is ignored, whatever its weight.
    reduction : str
        A value of the option, or "sum_both", "sum_time" and "sum_batch" for the flags that sum.
    """
    w = np.asarray(weights).astype(WIDE)
    units = np.where(kept, of.units, 0)
    kept = kept & ((units != 0) | (objective.eps > 0))
    w = np.where(kept & ~(abs(w) < 2.0**-126), w, 0)
    active = w != 0
    # A loss that weight 0 has to remove counts as 0.
    counts = active | (kept & np.isfinite(of.loss))
    losses, scales = (np.where(counts, x, 0) for x in (of.loss, of.loss_scale))
    axis: Any = _AXIS.get(reduction, (0, 1))
    is_mean = reduction in ("mean", "per_sequence", "sequence_mean")
    if is_mean:
        divisor = (w * units).sum(axis, keepdims=True)
    elif reduction.startswith("sum_"):
        divisor = active.sum(axis, keepdims=True).astype(WIDE)
    else:
        divisor = np.ones((1, 1), WIDE)
    if normalizer is not None and reduction != "sequence_mean":
        divisor, is_mean = np.full((1, 1), normalizer, WIDE), False
    share = np.where(divisor == 0, 0, 1 / np.where(divisor == 0, 1, divisor))
    with np.errstate(all="ignore"):
        summed = (w * losses).sum(axis, keepdims=True) if axis != () else w * losses
        scale = (abs(w) * scales).sum(axis, keepdims=True) if axis != () else abs(w) * scales
    loss, scale = np.where(share == 0, 0, summed * share), scale * abs(share)
    own, g = loss, np.asarray(cotangent, WIDE)
    if reduction == "sequence_mean":
        sequences = WIDE(active.any(1).sum() if normalizer is None else normalizer)
        part = 1 / sequences if sequences else WIDE(0)
        loss, scale, share = loss.sum() * part, scale.sum() * part, share * part
    elif axis == 1:
        loss, scale, g = loss[:, 0], scale[:, 0], g[..., None]
    elif axis == 0:
        loss, scale = loss[0], scale[0]
    elif axis:
        loss, scale = loss[0, 0], scale[0, 0]
    g = g * share
    moved = losses - own * units if is_mean else losses
    dlogits = np.where((g * w == 0)[..., None], 0, (g * w)[..., None] * of.dlogits)
    sizes = np.where((g * w == 0)[..., None], 0, abs(g * w)[..., None] * of.dlogits_scale)
    dweights = np.where(kept, g * moved, 0) * np.ones(w.shape)
    largest = abs(g) * (scales + abs(own) * units) * np.ones(w.shape)
    dtargets, dtargets_scale = _by_labels(of, g * w, own if is_mean else 0 * own)
    return Averaged(loss, dlogits, dweights, dtargets, scale, sizes, largest, dtargets_scale)


def _by_labels(of: Losses, shares: Array, moved: Array) -> tuple[Array, Array]:
    """The gradient of soft labels, and its scale, for shares [batch, time] of the tokens in the loss.

    ``moved`` is what a mean falls by for each unit that is added to its denominator.
    """
    shares, moved = shares[..., None], (moved * np.ones(shares.shape))[..., None]
    with np.errstate(all="ignore"):
        gradient = shares * (of.dlabels - moved * of.dunits)
        scale = abs(shares) * (abs(of.dlabels) + abs(moved) * of.dunits)
    return np.where(shares == 0, 0, gradient), np.where(shares == 0, 0, scale)
