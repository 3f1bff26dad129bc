"""Sampled losses written out example by example in float64, with their gradients, and problems to try them on."""

from typing import NamedTuple

import numpy as np

DIM, CLASSES, SAMPLED = 4, 9, 6


class Expected(NamedTuple):
    """The loss of each example, and the gradient of their sum with a cotangent."""

    loss: np.ndarray
    dweights: np.ndarray
    dbiases: np.ndarray
    dinputs: np.ndarray


def draw(batch=3, num_true=2, seed=0, dtype="float32"):
    """weights, biases, labels, inputs, sampled, true_expected, sampled_expected; candidate 0 hits, and is there twice.

    Classes 7 and 8 are in no example and no candidate.
    """
    rng = np.random.default_rng(seed)
    weights, biases = rng.normal(size=(CLASSES, DIM)), rng.normal(size=CLASSES)
    labels = rng.integers(0, CLASSES - 2, (batch, num_true))
    inputs = rng.normal(size=(batch, DIM))
    sampled = rng.permutation(CLASSES - 2)[:SAMPLED]
    sampled[[0, 3]] = labels[0, 0] if batch else 1
    counts = rng.uniform(0.1, 0.9, (batch, num_true)), rng.uniform(0.1, 0.9, SAMPLED)
    floats = [x.astype(dtype) for x in (weights, biases, inputs, *counts)]
    return [*floats[:2], labels, floats[2], sampled, *floats[3:]]


def oracle(loss, arrays, cotangent=None, hits=True, subtract=True):
    """``loss`` is "softmax" or "nce"; the arrays are those of :func:`draw`."""
    weights, biases, labels, inputs, sampled, of_true, of_sampled = (
        np.asarray(x, "int64" if np.asarray(x).dtype.kind in "iu" else "float64") for x in arrays
    )
    g = np.ones(len(inputs)) if cotangent is None else cotangent
    result = Expected(np.zeros(len(inputs)), *(np.zeros(x.shape) for x in (weights, biases, inputs)))
    for i, (x, true, counts) in enumerate(zip(inputs, labels, of_true, strict=True)):
        ids, q = [*true, *sampled], np.array([*counts, *of_sampled])
        target = np.array([1 / len(true)] * len(true) + [0] * len(sampled))
        removed = {len(true) + max(np.flatnonzero(sampled == c)) for c in true if c in sampled} if hits else set()
        kept = [place for place in range(len(ids)) if place not in removed]
        ids, q, target = np.array(ids)[kept], q[kept], target[kept]
        z = weights[ids] @ x + biases[ids] - (np.log(q) if subtract else 0)
        if loss == "softmax":
            p = np.exp(z - z.max())
            p /= p.sum()
            result.loss[i] = -(target * np.log(p)).sum()
        else:
            p = 1 / (1 + np.exp(-z))
            result.loss[i] = -(target * np.log(p) + (1 - target) * np.log1p(-p)).sum()
        slope = g[i] * (p - target)
        np.add.at(result.dweights, ids, slope[:, None] * x)
        np.add.at(result.dbiases, ids, slope)
        result.dinputs[i] = slope @ weights[ids]
    return result


def split(array, shards, strategy):
    """The shards of an array, by ``np.array_split`` or by steps."""
    return np.array_split(array, shards) if strategy == "div" else [array[i::shards] for i in range(shards)]
