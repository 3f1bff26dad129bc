"""The reference for the statistics of a token: :mod:`seqloss.core.contract`, without a line of the kernels.

The definitions are taken literally, in the widest float of NumPy, as :mod:`seqloss.testing.oracle` does:

* ``unl`` is a cross entropy against soft labels, which are the prior made to add up to 1;
* a capped logit is a logit, and a gradient of logits behind a cap is multiplied by ``1 / cosh**2``.
"""

from typing import Any, NamedTuple

import numpy as np

from seqloss.testing import oracle
from seqloss.testing.oracle import WIDE

Array = Any


class Statistics(NamedTuple):
    """The statistics of each token [...] and their derivatives by the logits [..., classes].

    All are NaN where the row is bad. Where the label alone is bad, nll and its derivative are.
    """

    nll: Array
    lse: Array
    unl: Array
    mass: Array
    dnll: Array
    dlse: Array
    dunl: Array
    nll_scale: Array
    """The sizes of what was added up in ``nll``, and in the two below; their own where nothing can cancel."""
    dnll_scale: Array
    dunl_scale: Array
    dlabels: Array | None = None
    """The derivative of nll by soft labels."""


def of_tokens(logits: Array, targets: Array, prior: Array | None = None, softcap: float | None = None) -> Statistics:
    """The statistics for one label each.

    ``prior`` [classes] is 1 for each class unless it is given.
    """
    z, slope = capped(logits, softcap)
    nll, dnll = oracle.tokens(z, targets)
    with np.errstate(all="ignore"):
        dnll = dnll * slope
    own = {"nll": nll, "dnll": dnll, "nll_scale": abs(nll), "dnll_scale": abs(dnll)}
    return Statistics(**own, **_shared(z, slope, prior))


def of_labels(
    logits: Array,
    labels: Array,
    mass: Array | None = None,
    prior: Array | None = None,
    softcap: float | None = None,
) -> Statistics:
    """The statistics for soft labels; ``mass`` is their sum unless it is given."""
    z, slope = capped(logits, softcap)
    soft = oracle.soft_tokens(z, labels, mass)
    with np.errstate(all="ignore"):
        dnll, scale = soft.dlogits * slope, soft.dlogits_scale * slope
    own = {"nll": soft.nll, "dnll": dnll, "nll_scale": soft.nll_scale, "dnll_scale": scale, "dlabels": soft.dlabels}
    return Statistics(**own, **_shared(z, slope, prior))


def capped(logits: Array, softcap: float | None) -> tuple[Array, Array]:
    """Logits behind a cap, which leaves infinite ones as they are, and the derivative of each."""
    x = np.asarray(logits).astype(WIDE)
    if softcap is None:
        return x, np.ones(x.shape, WIDE)
    cap = WIDE(softcap)
    with np.errstate(all="ignore"):
        return np.where(np.isinf(x), x, cap * np.tanh(x / cap)), 1 / np.cosh(x / cap) ** 2


def distribution(z: Array, prior: Array | None) -> tuple[Array, Array]:
    """q, the prior on the possible classes made to add up to 1, and what it added up to."""
    given = np.ones(z.shape[-1], WIDE) if prior is None else np.asarray(prior).astype(WIDE)
    possible = np.where(z > -np.inf, given, 0)
    mass = possible.sum(-1)
    return possible / np.where(mass == 0, 1, mass)[..., None], mass


def pulled(
    statistics: Statistics, to_nll: Array | None, to_lse: Array | None = None, to_unl: Array | None = None
) -> tuple[Array, Array]:
    """d/dlogits for the cotangents [...] of the three statistics, and the sizes of what was added up.

    A row is 0 where all of its cotangents are; a cotangent of None is 0.
    """
    shape = statistics.nll.shape
    given = [np.zeros(shape) if x is None else np.asarray(x) for x in (to_nll, to_lse, to_unl)]
    a, b, c = (x.astype(WIDE)[..., None] for x in given)
    unused = (a == 0) & (b == 0) & (c == 0)
    with np.errstate(all="ignore"):
        gradient = _times(a, statistics.dnll) + _times(b, statistics.dlse) + _times(c, statistics.dunl)
        scale = abs(_times(a, statistics.dnll_scale)) + abs(_times(b, statistics.dlse))
        scale = scale + abs(_times(c, statistics.dunl_scale))
    return np.where(unused, 0, gradient), np.where(unused, 0, scale)


def _shared(z: Array, slope: Array, prior: Array | None) -> dict[str, Array]:
    """The fields that do not depend on the labels."""
    q, mass = distribution(z, prior)
    unl = oracle.soft_tokens(z, q, np.where(mass == 0, 0, 1))
    with np.errstate(all="ignore"):
        highest = z.max(-1, keepdims=True)
        e = np.exp(z - highest)
        total = e.sum(-1, keepdims=True)
        lse, p = (highest + np.log(total))[..., 0], e / total
        good = np.isfinite(highest)
        dunl, scale = unl.dlogits * slope, np.where(mass == 0, 0, 1)[..., None] * (p + q) * slope
    lse, mass = (np.where(good[..., 0], x, np.nan) for x in (lse, mass))
    dlse, dunl, scale = (np.where(good, x, np.nan) for x in (p * slope, dunl, scale))
    return {"lse": lse, "unl": unl.nll, "mass": mass, "dlse": dlse, "dunl": dunl, "dunl_scale": scale}


def _times(factor: Array, x: Array) -> Array:
    """0 times anything is 0."""
    return np.where(factor == 0, 0, factor * x)
