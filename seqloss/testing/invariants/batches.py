"""The batches that a loss is checked with: drawn, made confident, and with the weights that it takes."""

import numpy as np

from seqloss.testing.invariants.subject import Array, Batch

LACKING = {
    "binary": "only weights of 0 and 1",
    "prefix": "only weights that are 1 up to an end and 0 after it",
    "ones": "neither weights nor a label that leaves a token out",
}
"""What a loss cannot be asked, by the weights that it takes."""


def fitting(weights: Array, kind: str) -> Array:
    """The weights of this kind that are most like these."""
    if kind == "any":
        return weights
    if kind == "ones":
        return np.ones_like(weights, np.float32)
    counting = weights != 0
    if kind == "prefix":
        counting = np.arange(weights.shape[1]) < counting.sum(1)[:, None]
    return counting.astype(np.float32)


def draw(rng: np.random.Generator, batch: int = 2, time: int = 3, classes: int = 4) -> Batch:
    """Ordinary arrays: float32 logits, weights of 0.25 … 2 whose sums are exact in any order, two tokens masked."""
    logits = rng.normal(0, 2, (batch, time, classes)).astype(np.float32)
    targets = rng.integers(0, classes, (batch, time))
    weights = (rng.integers(1, 9, (batch, time)) / 4).astype(np.float32)
    weights[0, time // 2 :] = 0
    return Batch(logits, targets, weights)


def of_classes(batch: Batch, classes: int) -> Batch:
    """The batch with so many classes: the first ones, or more, whose logits are drawn from those that there are."""
    more = classes - batch.logits.shape[-1]
    if more <= 0:
        return batch._replace(logits=batch.logits[..., :classes], targets=np.minimum(batch.targets, classes - 1))
    added = np.random.default_rng(0).choice(batch.logits.ravel(), (*batch.targets.shape, more))
    return batch._replace(logits=np.concatenate([batch.logits, added], -1))


def relabelled(targets: Array, avoided: Array) -> Array:
    """The labels, and in the place of a class that is to be avoided the next one that is not, if there is any."""
    left = np.flatnonzero(~avoided)
    if left.size in (0, avoided.size):
        return targets
    following = left[np.searchsorted(left, np.arange(avoided.size)) % left.size]
    legal = (targets >= 0) & (targets < avoided.size)
    return np.where(legal, following[np.where(legal, targets, 0)], targets)


def confident(batch: Batch, margins: Array) -> Batch:
    """Tokens of weight 1 whose target leads the largest other logit by the margin."""
    at_target = np.arange(batch.logits.shape[-1]) == batch.targets[..., None]
    highest = np.where(at_target, -np.inf, batch.logits).max(-1)
    logits = np.where(at_target, (highest + margins)[..., None], batch.logits).astype(np.float32)
    return Batch(logits, batch.targets, np.ones_like(batch.weights))
