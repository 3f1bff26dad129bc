"""The reference for the options of a loss: the definition written down literally, without a line of the library.

For the logits ``x`` of a token behind their cap, its label or soft labels ``y``, and the class weights ``cw``::

    u_j  = prior_j / sum_A prior      on A, 0 elsewhere; u = y where that sum is 0
    A    = the possible classes but those excluded, and, off target, but the label
    Q_j  = (1 - eps) y_j + eps u_j
    v    = sum_j y_j cw_j
    loss = sum_j Q_j cw_j (L - x_j) - h + v z_loss L**2          with L = log sum_j exp(x_j), and 0 times infinity 0

``h``, the entropy of Q off target, is taken off where the smoothing is centred.
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
    u = _uniform(x, y, objective)
    q = (1 - eps) * y + eps * u
    soft = oracle.soft_tokens(x, q * cw)
    units = (y * cw).sum(-1)
    with np.errstate(all="ignore"):
        highest = x.max(-1, keepdims=True)
        e = np.exp(x - highest)
        lse, p = (highest + np.log(e.sum(-1, keepdims=True)))[..., 0], e / e.sum(-1, keepdims=True)
        entropy = _entropy(u, eps) if objective.centred else np.zeros(units.shape, WIDE)
        penalty = units * WIDE(objective.z_loss) * lse**2
        to_lse = 2 * units * WIDE(objective.z_loss) * lse
        loss = soft.nll - entropy + penalty
        dlogits = (soft.dlogits + to_lse[..., None] * p) * slope
        # Of what is smoothed the labels have their part; where there is nothing to smooth with, all of it.
        part = np.where((u == y).all(-1, keepdims=True), 1, 1 - eps)
        dlabels = part * cw * soft.dlabels + cw * (WIDE(objective.z_loss) * lse**2)[..., None]
        scale = soft.nll_scale + abs(entropy) + abs(penalty)
        dlogits_scale = (soft.dlogits_scale + abs(to_lse)[..., None] * p) * slope
    good = known & np.isfinite(highest[..., 0])
    loss, scale, units = (np.where(good, a, np.nan) for a in (loss, scale, units))
    dlogits, dlogits_scale, dlabels = (np.where(good[..., None], a, np.nan) for a in (dlogits, dlogits_scale, dlabels))
    return Losses(loss, units, dlogits, dlabels, np.broadcast_to(cw, x.shape), scale, dlogits_scale)


def _distribution(labels: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Labels as [..., classes], and where they are any."""
    labels = np.asarray(labels)
    if labels.dtype.kind == "f":
        return labels.astype(WIDE), ~np.isnan(labels).any(-1)
    known = (labels >= 0) & (labels < shape[-1])
    return (np.arange(shape[-1]) == labels[..., None]).astype(WIDE), known


def _uniform(x: Array, y: Array, objective: Objective) -> Array:
    """u, what the labels are smoothed with."""
    prior = np.ones(x.shape[-1]) if objective.prior is None else np.asarray(objective.prior)
    allowed = x > -np.inf
    allowed[..., list(objective.exclude)] = False
    if objective.off_target:
        allowed &= y == 0
    given = np.where(allowed, prior.astype(WIDE), 0)
    total = given.sum(-1, keepdims=True)
    return np.where(total == 0, y, given / np.where(total == 0, 1, total))


def _entropy(u: Array, eps: Any) -> Array:
    def times_log(a: Array) -> Array:
        return np.where(a == 0, 0, a * np.log(np.where(a == 0, 1, a)))

    return -(times_log(1 - eps) + times_log(eps * u).sum(-1))
