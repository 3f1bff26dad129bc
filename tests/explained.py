"""Losses with known mistakes, written plainly in NumPy: what test_explain.py has explained.

Each mistake changes one step: which tokens are scored, what one costs, how they are added up, or the number at the
end. Two of different steps can be made together.
"""

from typing import NamedTuple

import numpy as np

EPS, PAD, WORLD, ACCUMULATION = 0.1, 3, 4, 3


class Batch(NamedTuple):
    logits: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


OPTIONS = {"pad_id": PAD, "world_size": WORLD, "accumulation_steps": ACCUMULATION, "label_smoothing": EPS}


def draw(seed, dtype="float32", batch=10, time=7, classes=11):
    """Uneven lengths, weights of all sizes, and the padding id among the labels that count."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (batch, time, classes)).astype(dtype)
    targets = rng.integers(0, classes, (batch, time))
    lengths = rng.integers(1, time + 1, batch)
    lengths[rng.integers(batch)] = time
    weights = (np.arange(time) < lengths[:, None]) * rng.uniform(0.25, 2, (batch, time))
    return Batch(logits, targets, weights.astype(dtype))


def bfloat16(x):
    """Round to bfloat16 by the bits of float32: ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(np.asarray(x).dtype)


def float16(x):
    return np.asarray(x, np.float16).astype(np.asarray(x).dtype)


def one_by_one(x, rounded):
    total = x.dtype.type(0)
    for value in rounded(x).ravel():
        total = rounded(total + value)
    return total


# Which tokens are scored.


def reread(x):
    return np.ravel(x, order="F").reshape(x.shape)


def reread_back(x):
    return np.reshape(np.ravel(x), x.shape, order="F")


TOKENS = {
    "as given": lambda z, y, w: (z, y, w),
    "time-major confusion": lambda z, y, w: (z, reread(y), reread(w)),
    "time-major confusion, back": lambda z, y, w: (z, reread_back(y), reread_back(w)),
    "time-major confusion of targets": lambda z, y, w: (z, reread(y), w),
    "time-major confusion of weights": lambda z, y, w: (z, y, reread(w)),
    "labels shifted forward": lambda z, y, w: (z[:, :-1], y[:, 1:], w[:, 1:]),
    "labels shifted forward, weights not": lambda z, y, w: (z[:, :-1], y[:, 1:], w[:, :-1]),
    "labels shifted forward, round": lambda z, y, w: (z, np.roll(y, -1, axis=1), w),
    "labels shifted backward": lambda z, y, w: (z[:, 1:], y[:, :-1], w[:, :-1]),
    "labels shifted backward, weights not": lambda z, y, w: (z[:, 1:], y[:, :-1], w[:, 1:]),
    "labels shifted backward, round": lambda z, y, w: (z, np.roll(y, 1, axis=1), w),
    "doubled shift": lambda z, y, w: (z[:, :-2], y[:, 2:], w[:, 2:]),
    "first token dropped": lambda z, y, w: (z[:, 1:], y[:, 1:], w[:, 1:]),
    "last token dropped": lambda z, y, w: (z[:, :-1], y[:, :-1], w[:, :-1]),
    "first token dropped, of those that count": lambda z, y, w: (z, y, w * (np.cumsum(w != 0, 1) > 1)),
    "last token dropped, of those that count": lambda z, y, w: (z, y, w * (np.cumsum(w[:, ::-1] != 0, 1) > 1)[:, ::-1]),
    "ignored pad id": lambda z, y, w: (z, y, w * (y != PAD)),
    "ignored pad id, no weights": lambda z, y, w: (z, y, (y != PAD).astype(w.dtype)),
    "weights not used": lambda z, y, w: (z, y, np.ones_like(w)),
    "weights taken as a mask": lambda z, y, w: (z, y, (w > 0).astype(w.dtype)),
    "ids from 1": lambda z, y, w: (z, (y - 1) % z.shape[-1], w),
}


# What a token costs.


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def cost(label, other, entropy=0.0):
    """The loss against soft labels with so much at the label and at every other class."""

    def nll(z, y):
        soft = np.full(z.shape, other, z.dtype)
        np.put_along_axis(soft, y[..., None], label, -1)
        return -(soft * log_softmax(z)).sum(-1) - z.dtype.type(entropy)

    return nll


def gather(x, y):
    return np.take_along_axis(x, y[..., None], -1)[..., 0]


def logsumexp(z):
    return z[..., 0] - log_softmax(z)[..., 0]


def of_logits(change):
    return lambda z, y: -gather(log_softmax(change(z)), y)


K = 11
SPREAD = EPS / (K - 1)
COSTS = {
    "no smoothing": lambda z, y: -gather(log_softmax(z), y),
    "double softmax": lambda z, y: -gather(log_softmax(np.exp(log_softmax(z))), y),
    "label smoothing eps/K": cost(1 - EPS + EPS / K, EPS / K),
    "label smoothing eps/(K-1)": cost(1 - EPS, SPREAD),
    "label smoothing minus the entropy": cost(1 - EPS, SPREAD, -(1 - EPS) * np.log(1 - EPS) - EPS * np.log(SPREAD)),
    "label smoothing minus the entropy, eps/K": cost(
        1 - EPS + EPS / K,
        EPS / K,
        -(1 - EPS + EPS / K) * np.log(1 - EPS + EPS / K) - (K - 1) * EPS / K * np.log(EPS / K),
    ),
    "label smoothing eps/(K-2)": cost(1 - EPS, EPS / (K - 2)),
    "softcap": of_logits(lambda z: z.dtype.type(30) * np.tanh(z / z.dtype.type(30))),
    "softcap, 50": of_logits(lambda z: z.dtype.type(50) * np.tanh(z / z.dtype.type(50))),
    "temperature": of_logits(lambda z: z / z.dtype.type(0.5)),
    **{f"temperature, {by}": of_logits(lambda z, by=by: z / z.dtype.type(by)) for by in (0.7, 0.8, 2, 4)},
    "z-loss": lambda z, y: -gather(log_softmax(z), y) + z.dtype.type(1e-4) * logsumexp(z) ** 2,
}


# How they are added up.


def mean(n, w):
    return (n * w).sum() / w.sum() if w.sum() else n.dtype.type(0)


def mean_of_means(pieces):
    return lambda n, w: np.mean([mean(n[rows], w[rows]) for rows in pieces(len(n))], dtype=n.dtype)


def half(numerator=None, denominator=None, terms=None):
    def reduce(n, w):
        x = terms(n * w) if terms else n * w
        above = numerator(x) if numerator else x.sum()
        return above / (denominator(w) if denominator else w.sum())

    return reduce


SUMS = {
    "weighted mean": mean,
    "mean over padding": lambda n, w: (n * w).mean(),
    "sum": lambda n, w: (n * w).sum(),
    "count of non-zero weights": lambda n, w: (n * w).sum() / np.count_nonzero(w),
    "batch-size division": lambda n, w: (n * w).sum() / len(n),
    "division by time steps": lambda n, w: (n * w).sum() / n.shape[1],
    "weights in the denominator only": lambda n, w: n.sum() / w.sum(),
    "mean of per-sequence means": mean_of_means(range),
    "mean of micro-batch means": mean_of_means(lambda rows: np.array_split(np.arange(rows), ACCUMULATION)),
    "mean of micro-batch means, the last one smaller": mean_of_means(
        lambda rows: np.split(np.arange(rows), range(-(-rows // ACCUMULATION), rows, -(-rows // ACCUMULATION)))
    ),
    "mean of per-rank means": mean_of_means(lambda rows: np.array_split(np.arange(rows), WORLD)),
    "mean of per-rank means, strided": mean_of_means(lambda rows: [np.arange(r, rows, WORLD) for r in range(WORLD)]),
}
for name, rounded in (("bfloat16", bfloat16), ("float16", float16)):
    once, steps = (lambda x, r=rounded: r(x.sum())), (lambda x, r=rounded: one_by_one(x, r))
    SUMS |= {
        f"half-precision count ({name})": half(denominator=once),
        f"half-precision count ({name}), one by one": half(denominator=steps),
        f"half-precision sum ({name})": half(once),
        f"half-precision sum ({name}), one by one": half(steps),
        f"half-precision sum and count ({name})": half(once, once),
        f"half-precision sum and count ({name}), one by one": half(steps, steps),
        f"half-precision token losses ({name})": half(terms=rounded),
    }


# The number at the end.

ENDS = {
    "as it is": lambda x: x,
    "base-2 logarithms": lambda x: x / np.log(2),
    "base-10 logarithms": lambda x: x / np.log(10),
    "times world_size": lambda x: x * WORLD,
    "divided by world_size": lambda x: x / WORLD,
    "times accumulation_steps": lambda x: x * ACCUMULATION,
    "divided by accumulation_steps": lambda x: x / ACCUMULATION,
    "sign": lambda x: -x,
    "perplexity": np.exp,
    "perplexity, base 2": np.exp2,
}

STEPS = (TOKENS, COSTS, SUMS, ENDS)
RIGHT = tuple(next(iter(step)) for step in STEPS)


def loss(batch, names=RIGHT):
    """The loss with the mistakes of these names: one of each step."""
    tokens, costs, sums, ends = (step[name] for step, name in zip(STEPS, names, strict=True))
    z, y, w = tokens(*batch)
    value = sums(costs(z, y), w)
    with np.errstate(over="ignore"):
        return value.dtype.type(ends(value))


def mistakes(names):
    return [name for name, right in zip(names, RIGHT, strict=True) if name != right]


def singles():
    for i, step in enumerate(STEPS):
        for name in step:
            if name != RIGHT[i]:
                yield (*RIGHT[:i], name, *RIGHT[i + 1 :])


RARE = (",", "of targets", "of weights", "sum and count", "token losses", "(K-2)")
"""Forms of a mistake that are looked for alone."""

OF_A_NUMBER = ("softcap", "temperature", "z-loss")
"""Mistakes with a number that the caller may name."""

SELDOM = ("half", "ids from 1", "double softmax", "base-10", *OF_A_NUMBER)
"""Mistakes of which two are not looked for together."""


def pairs():
    usual = [names for names in singles() if not any(part in mistakes(names)[0] for part in RARE)]
    for i, a in enumerate(usual):
        for b in usual[i + 1 :]:
            both = tuple(y if x == right else x for x, y, right in zip(a, b, RIGHT, strict=True))
            seldom = sum(any(part in name for part in SELDOM) for name in mistakes(both))
            if mistakes(both) == [*mistakes(a), *mistakes(b)] and seldom < 2:
                yield both
