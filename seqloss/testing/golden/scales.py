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
    mean = oracle.sequence_loss(logits, targets, weights, **flags)
    tokens = oracle.sequence_loss(logits, targets, weights, *[False] * 4)
    # Of two classes with equal logits: token losses of log 2, and gradients of one half.
    one = oracle.sequence_loss(np.zeros((*targets.shape, 2)), np.zeros(targets.shape, int), weights, **flags)
    at_target = np.arange(logits.shape[-1]) == targets[..., None]
    bound = 2 * tolerances.token_bound(logits)
    widest = bound.max(initial=tolerances.PAIR_ULPS)
    return {
        "loss": Allowed(widest, mean.loss_scale + one.loss_scale / math.log(2), compute),
        "dlogits": Allowed(bound[..., None], np.where(at_target, 2 * abs(one.dlogits[..., :1]), 0), compute),
        "dweights": Allowed(widest, mean.dweights_scale + one.dweights_scale / math.log(2), compute),
        "token_losses": Allowed(bound, tokens.loss_scale + abs(weights), compute),
    }
