"""What the sampled losses must return, example by example as the definition says it."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from seqloss.testing import oracle, tolerances
from seqloss.testing.families.reference import Expected

Array = Any


class Logits(NamedTuple):
    """Logits and labels [batch, num_true + num_sampled], the class of each column, and the size of what was added."""

    values: Array
    labels: Array
    ids: Array
    scale: Array


def logits(
    weights: Array, biases: Array, labels: Array, inputs: Array, sampled_values: tuple[Array, ...], removes_hits: bool
) -> Logits:
    """<x, W[c]> + b[c] - log(count[c]) of the true classes and the candidates; -inf for accidental hits."""
    w, b, x = (np.asarray(a).astype(oracle.WIDE) for a in (weights, biases, inputs))
    sampled, of_true, of_sampled = sampled_values
    batch, true = labels.shape
    ids = np.concatenate([labels, np.broadcast_to(sampled, (batch, len(sampled)))], 1)
    counts = np.concatenate([of_true, np.broadcast_to(of_sampled, (batch, len(sampled)))], 1).astype(oracle.WIDE)
    z, scale = np.zeros(ids.shape, oracle.WIDE), np.zeros(ids.shape, oracle.WIDE)
    for i, j in np.ndindex(*ids.shape):
        products, correction = x[i] * w[ids[i, j]], np.log(counts[i, j])
        z[i, j] = products.sum() + b[ids[i, j]] - correction
        scale[i, j] = abs(products).sum() + abs(b[ids[i, j]]) + abs(correction)
        place = j - true
        # Of a class that was drawn more than once the last one is removed.
        if removes_hits and place >= 0 and sampled[place] in labels[i] and sampled[place] not in sampled[place + 1 :]:
            z[i, j], scale[i, j] = -np.inf, 0
    y = np.where(np.arange(ids.shape[1]) < true, oracle.WIDE(1) / true, 0) * np.ones((batch, 1))
    return Logits(z, y, ids, scale)


def loss(
    weights: Array,
    biases: Array,
    labels: Array,
    inputs: Array,
    sampled_values: tuple[Array, ...],
    removes_hits: bool,
    is_nce: bool,
    cotangent: Array | None,
) -> Expected:
    """The loss of each example and the gradients of weights, biases and inputs."""
    z = logits(weights, biases, labels, inputs, sampled_values, removes_hits)
    w, x = (np.asarray(a).astype(oracle.WIDE) for a in (weights, inputs))
    if is_nce:
        entries = oracle.binary_entries(z.values, z.labels)
        nll, size, slope = entries.nll.sum(1), entries.nll_scale.sum(1), entries.dlogits
        slope_size = entries.dlogits_scale * (1 + z.scale)
    else:
        tokens = oracle.soft_tokens(z.values, z.labels, np.ones(len(x)))
        nll, size, slope = tokens.nll, tokens.nll_scale, tokens.dlogits
        # The error of a logit is a relative error of each probability.
        slope_size = tokens.dlogits_scale * (1 + 2 * z.scale.max(1, keepdims=True))
    # The error of a logit goes into the loss with its slope.
    size = size + (abs(slope) * z.scale).sum(1)
    up = (np.ones(len(x)) if cotangent is None else np.asarray(cotangent).astype(oracle.WIDE))[:, None]
    slope, slope_size = up * slope, abs(up) * slope_size * (slope != 0)
    pairs = []
    for g, rows, own in ((slope, w, x), (slope_size, abs(w), abs(x))):
        to_weights, to_biases = np.zeros(w.shape, oracle.WIDE), np.zeros(len(w), oracle.WIDE)
        np.add.at(to_weights, z.ids, g[..., None] * own[:, None])
        np.add.at(to_biases, z.ids, g)
        pairs.append((to_weights, to_biases, (g[..., None] * rows[z.ids]).sum(1)))
    bound = float(tolerances.token_bound(z.values.astype(np.float64)).max())
    # In half precision the rows of a class are added up as they are, each rounded.
    often = float(max(Counter([*labels.reshape(-1).tolist(), *sampled_values[0].tolist()]).values())) + 1
    return Expected(nll, size, pairs[0], pairs[1], bound, (often, often, 1))
