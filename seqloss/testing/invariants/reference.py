"""What a loss must give by its objective, and with how many classes it can be asked."""

from typing import Any, NamedTuple

import numpy as np

from seqloss.testing import oracle, oracle_objectives, tolerances
from seqloss.testing.invariants.subject import Array, Batch
from seqloss.testing.oracle import WIDE
from seqloss.testing.oracle_objectives import Objective

STEP = WIDE(1e-6)
"""Of the difference quotients of a gradient, in the widest float: the error is about its square."""


class Reference(NamedTuple):
    """The mean ``sum(weights * loss) / sum(weights)``, its gradients, and the sizes of what was added up in each."""

    loss: Array
    dlogits: Array
    dweights: Array
    loss_scale: Array
    dlogits_scale: Array
    dweights_scale: Array


def reference(batch: Batch, objective: Objective) -> Reference:
    """The mean over the tokens of a batch; 0 if none counts."""
    if not parts(objective):
        plain = oracle.sequence_loss(*batch)
        scales = plain.loss_scale, abs(plain.dlogits), plain.dweights_scale
        return Reference(plain.loss, plain.dlogits, plain.dweights, *scales)
    tokens = oracle_objectives.tokens(batch.logits, batch.targets, objective)
    # Class weights have no part in this denominator: what a loss divides by is a matter of its conventions.
    tokens = tokens._replace(units=np.ones_like(tokens.units))
    found = oracle_objectives.averaged(tokens, batch.weights, np.ones(batch.targets.shape, bool), objective, "mean")
    scales = found.loss_scale, found.dlogits_scale, found.dweights_scale
    return Reference(found.loss, found.dlogits, found.dweights, *scales)


def hessian_product(batch: Batch, objective: Objective, direction: Array) -> Array:
    """The Hessian of the mean, times a direction of the shape of the logits."""
    z, v = batch.logits.astype(WIDE), direction.astype(WIDE)
    if parts(objective):
        ahead, behind = (reference(batch._replace(logits=z + s * STEP * v), objective).dlogits for s in (1, -1))
        return ((ahead - behind) / (2 * STEP)).astype(np.float64)
    z, w, v = (x.astype(np.float64) for x in (z, batch.weights, v))
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return (w / (w.sum() or 1))[..., None] * p * (v - (p * v).sum(-1, keepdims=True))


def parts(objective: Objective) -> set[str]:
    """What an objective has beside the plain cross entropy."""
    has = {
        "label_smoothing": objective.eps > 0,
        "centred": objective.eps > 0 and objective.centred,
        "prior": objective.prior is not None,
        "class_weights": objective.class_weights is not None,
        "z_loss": objective.z_loss > 0,
        "softcap": objective.softcap is not None,
    }
    return {name for name, is_there in has.items() if is_there}


def room(objective: Objective) -> tuple[int, float]:
    """The fewest and the most classes that it can have: it may name some."""
    named: list[Any] = [x for x in (objective.class_weights, objective.prior) if x is not None]
    if named:
        return len(named[0]), len(named[0])
    return max(objective.exclude, default=0) + 1, np.inf


def cap_slack(logits: Array, objective: Objective) -> float:
    """What the rounding of a cap may do to an exponential, relative to its size."""
    if objective.softcap is None:
        return 0.0
    largest = np.abs(np.where(np.isfinite(logits), logits, 0)).max(initial=0)
    return float(tolerances.CAP_ULPS * min(largest, objective.softcap) * 2.0**-23)
