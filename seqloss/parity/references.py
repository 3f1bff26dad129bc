"""The references of the functions, with gradients in the order of ``Function.wrt``."""

from typing import Any

import numpy as np

from seqloss.testing.families import reference, sampled
from seqloss.testing.families.reference import Expected, Losses, Slope

Array = Any
KEY = "weighted_sum_by_nonzero_weights"


def _swapped(expected: Expected, order: tuple[int, ...]) -> Expected:
    """The gradients in another order, or some of them."""
    gradients, scales = (tuple(x[i] for i in order) for x in (expected.gradients, expected.scales))
    return expected._replace(gradients=gradients, scales=scales)


def sparse(logits: Array, labels: Array) -> Expected:
    return reference.unreduced(reference.sparse(logits, labels), None)


def soft(labels: Array, logits: Array) -> Expected:
    return _swapped(reference.unreduced(reference.soft(logits, labels), None), (1, 0))


def binary(labels: Array, logits: Array, pos_weight: Array | None = None) -> Expected:
    got = reference.unreduced(reference.binary(logits, labels, pos_weight), None)
    return _swapped(got, (1, 0) if pos_weight is None else (1, 0, 2))


def weighted_losses(losses: Array, weights: Array) -> Expected:
    slope = Slope(np.ones(losses.shape), np.zeros(losses.shape), losses.shape)
    return reference.weighted(Losses(losses, np.zeros(losses.shape), (slope,), 20.0), weights, KEY, None)


def weighted_soft(onehot_labels: Array, logits: Array, weights: Array) -> Expected:
    return _swapped(reference.weighted(reference.soft(logits, onehot_labels), weights, KEY, None), (0, 2))


def weighted_sparse(logits: Array, labels: Array, weights: Array) -> Expected:
    return reference.weighted(reference.sparse(logits, labels), weights, KEY, None)


def weighted_binary(multi_class_labels: Array, logits: Array, weights: Array) -> Expected:
    return _swapped(reference.weighted(reference.binary(logits, multi_class_labels), weights, KEY, None), (0, 2))


def by_example(logits: Array, targets: Array, weights: Array, over_batch: bool | None = None) -> Expected:
    return reference.averaged(reference.sparse(logits, targets), weights, True, over_batch, None)


def mean_by_example(logits: Array, targets: Array, weights: Array) -> Expected:
    return by_example(logits, targets, weights, True)


def sampled_softmax(is_nce: bool = False, **arrays: Array) -> Expected:
    values = tuple(arrays[name] for name in ("sampled", "of_true", "of_sampled"))
    weights, biases, labels, inputs = (arrays[name] for name in ("weights", "biases", "labels", "inputs"))
    got = sampled.loss(weights, biases, labels, inputs, values, not is_nce, is_nce, None)
    return _swapped(got, (2, 0, 1))


def nce(**arrays: Array) -> Expected:
    return sampled_softmax(is_nce=True, **arrays)
