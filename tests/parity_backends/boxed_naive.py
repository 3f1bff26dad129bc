"""The formula that everyone writes: logsumexp minus the logit, and p - 1 at the target."""

import numpy as np
from boxed_right import *  # noqa: F403  # every function of the right one that is not replaced below
from boxed_right import boxed

from seqloss.backends import numpy as inner
from seqloss.core.protocol import LabelStatistics, TokenStatistics


@boxed
def token_nll(logits, targets, active, dtype):
    right = inner.token_nll(logits, targets, active, dtype)
    index = np.where(targets < 0, 0, targets)[..., None]
    lse = right.shift + np.log(right.total)
    nll = lse - np.take_along_axis(logits, index, -1)[..., 0]
    nll = nll if active is None else np.where(active, nll, np.float32(0))
    return TokenStatistics(nll, right.shift, right.total)


def differentiable_token_nll(logits, targets, active):
    return token_nll(logits, targets, active, "float32").nll


@boxed
def softmax_nll(logits, labels):
    right = inner.softmax_nll(logits, labels)
    lse = right.shift + np.log1p(right.rest)
    return LabelStatistics((labels * (lse[..., None] - logits)).sum(-1), right.shift, right.rest)


def differentiable_softmax_nll(logits, labels, mass):
    return softmax_nll(logits, labels).nll
