"""What a loss adds up and divides by: from its own mean to the one that the invariants are about."""

from typing import Any

import numpy as np

from seqloss.core.objectives import smoothing
from seqloss.testing.check.conventions import Conventions
from seqloss.testing.invariants import NotApplicable
from seqloss.testing.oracle_objectives import Objective

Array = Any


def objective(conventions: Conventions) -> Objective:
    """The terms of a token in the sums, by the oracle."""
    given = smoothing(conventions.label_smoothing)
    weights, cap = conventions.class_weights, conventions.softcap
    named = given.off_target, given.centred, given.exclude, given.prior
    return Objective(given.eps, *named, weights, float(conventions.z_loss), None if cap is None else float(cap))


class Averages:
    """The denominator of a loss beside the sum of the weights.

    A number of tokens or positions changes with padding, and one that has class weights with the labels. So means are
    multiplied by their own denominator, and divided by the sum of the weights: then they add up.
    """

    def __init__(self, conventions: Conventions) -> None:
        self.class_weights = conventions.class_weights
        # Else it is the kit that divides.
        is_own = conventions.returns in ("mean", "sum_and_count")
        self.kind = conventions.denominator if is_own else "weights_alone"
        if self.kind == "weights" and self.class_weights is None:
            self.kind = "weights_alone"

    def ratio(self, targets: Array, weights: Array) -> float:
        """The denominator over the sum of the weights; 1 where that is 0, and the loss is 0 by itself."""
        total = float(weights.sum(dtype=np.float64))
        if self.kind == "weights_alone" or total == 0:
            return 1.0
        counts = {"tokens": np.count_nonzero(weights), "positions": weights.size, "batch": len(weights)}
        own = counts.get(self.kind) or float((self._slope(targets, weights) * weights.astype(np.float64)).sum())
        if own == 0:
            raise NotApplicable("the denominator is 0, though the sum of the weights is not")
        return own / total

    def weight_gradient(self, gradient: Array, value: float, targets: Array, weights: Array) -> Array:
        """The gradient of the mean over the weights, from that of the loss."""
        if self.kind == "weights_alone":
            return gradient
        ratio = self.ratio(targets, weights)
        total = float(weights.sum(dtype=np.float64)) or 1.0
        return gradient * ratio + value * (self._slope(targets, weights) - ratio) / total

    def _slope(self, targets: Array, weights: Array) -> Array:
        """The derivative of the denominator with respect to each weight."""
        if self.kind == "weights":
            by_class = np.asarray(self.class_weights, np.float64)
            # A label that is not a class is treated as one: its loss is NaN, or removed by a weight of 0.
            legal = (targets >= 0) & (targets < by_class.size)
            return np.where(legal, by_class[np.where(legal, targets, 0)], 1.0)
        return np.full(weights.shape, 1.0 if self.kind == "weights_alone" else 0.0)
