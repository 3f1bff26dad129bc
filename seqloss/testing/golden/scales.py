"""How far results of the sequence loss may be from those of a program that computes it by other formulas."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from seqloss.core.dtypes import compute_dtype
from seqloss.testing import oracle, tolerances

Array = Any


class Allowed(NamedTuple):
    """Options of a comparison: so many units of ``compute``, at the scale of what was added up."""

    bound: Array
    scale: Array
    compute: str


def allowed(inputs: Mapping[str, Array], flags: Mapping[str, bool], dtype: str) -> dict[str, Allowed]:
    """What each result may differ by, for logits of this dtype: two rows of the table in ``testing.tolerances``.

    Frameworks compute ``log(sum_j exp(z_j - max)) - (z_y - max)``, whose sum has the summand 1, and ``softmax_y - 1``
    at the target. Both are rounded at the scale of 1, and then that 1 is weighted and reduced as a token loss is.
    """
    logits, targets, compute = inputs["logits"], inputs["targets"], compute_dtype(dtype)
    weights = np.asarray(inputs.get("weights", np.ones(targets.shape))).astype(compute)
    nll, bound = _tokens(logits, targets)
    pairs, labels = _pairs(nll), np.zeros(targets.shape, int)
    mean = oracle.sequence_loss(pairs, labels, weights, **flags)
    # Equal logits: token losses of log 2, and gradients of one half.
    one = oracle.sequence_loss(np.zeros(pairs.shape), labels, weights, **flags)
    at_target = np.arange(logits.shape[-1]) == targets[..., None]
    share = 2 * abs(one.dlogits[..., :1]).astype(np.float64)
    widest = bound.max(initial=tolerances.PAIR_ULPS)
    return {
        "loss": Allowed(widest, mean.loss_scale + one.loss_scale / math.log(2), compute),
        "dlogits": Allowed(bound[..., None], np.where(at_target, share, 0), compute),
        "dweights": Allowed(widest, mean.dweights_scale + one.dweights_scale / math.log(2), compute),
        "token_losses": Allowed(bound, abs(weights), compute),
    }


def _tokens(logits: Array, targets: Array) -> tuple[Array, Array]:
    """The loss of each token, and what two computed ones may differ by.

    Row by row: the oracle holds several wide arrays of the size of its logits.
    """
    nll, bound = np.empty(targets.shape, oracle.WIDE), np.empty(targets.shape)
    for row, (of_row, labels) in enumerate(zip(logits, targets, strict=True)):
        nll[row] = oracle.tokens(of_row, labels).nll
        bound[row] = 2 * tolerances.token_bound(of_row)
    return nll, bound


def _pairs(nll: Array) -> Array:
    """Logits of two classes, the first of which has these losses: all that a reduction sees of the others."""
    with np.errstate(all="ignore"):
        return np.stack([np.zeros_like(nll), np.log(np.expm1(nll))], -1)
