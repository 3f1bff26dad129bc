"""Exact losses do not depend on how classes or tokens are split: what docs/accuracy.md claims, computed here anew.

The sums of shards of the classes are taken and put together as the page says, without a line of the library. Whatever
the shards and their order, the float32 bits are those of the whole.
"""

import numpy as np
import pytest

import seqloss
from seqloss.testing import cases

SPLITS = 1000
M = 1.5 * 2**18
SMALLEST = 2.0**-126


def batch(scale=3.0):
    """Logits [1, tokens, classes] and targets; some tokens are sure, one class is impossible, and one is alone."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(0, scale, (1, 12, 601)).astype("float32"), rng.integers(0, 601, (1, 12))
    for token, margin in ((0, 15), (1, 40), (2, 80)):
        z[0, token, y[0, token]] = z[0, token].max() + np.float32(margin)
    z[0, 3, (y[0, 3] + 1) % 601] = -np.inf
    alone = z[0, 4, y[0, 4]]
    z[0, 4], z[0, 4, y[0, 4]] = -np.inf, alone
    return z, y


def shard(z, own, pivot):
    """The two sums of a shard; its own label, if it has it, is left out."""
    e = np.where(own, 0, np.exp(np.where(own, 0, z - pivot[:, None])))
    coarse = (e + M) - M
    return coarse.sum(-1), (e - coarse).sum(-1)


def split_loss(z, y, cuts, order):
    """Losses and gradients in float64, of shards that are added up in this order."""
    z, classes = z.astype("float64"), np.arange(z.shape[-1])
    own = classes == y[:, None]
    pieces = [np.s_[start:stop] for start, stop in zip((0, *cuts), (*cuts, z.shape[-1]), strict=True)]
    pieces = [pieces[i] for i in order]
    highest = [np.where(own[:, p], -np.inf, z[:, p]).max(-1) for p in pieces]
    s, t = np.max(highest, 0), z[own]
    s = np.where(s == -np.inf, t, s)
    sums = [shard(z[:, p], own[:, p], s) for p in pieces]
    r = sum(coarse for coarse, _ in sums) + sum(fine for _, fine in sums)
    above = t >= s
    odds, whole = r * np.exp(np.where(above, s - t, 0)), r + np.exp(np.where(above, 0, t - s))
    nll = np.where(above, np.log1p(odds), np.log(whole) - (t - s))
    gradient = np.exp(z - np.maximum(s, t)[:, None]) / np.where(above, 1 + odds, whole)[:, None]
    gradient[own] = np.expm1(-nll)
    return nll, gradient


def narrow(x):
    return np.where(abs(x) < SMALLEST, 0, x).astype("float32")


def test_shards_of_the_classes():
    z, y = batch()
    whole = seqloss.sequence_loss_and_grad(z, y, **cases.PLAIN, exact=True)
    rng = np.random.default_rng(1)
    differing = 0
    for _ in range(SPLITS):
        cuts = np.sort(rng.choice(np.arange(1, z.shape[-1]), rng.integers(0, 40), replace=False))
        nll, gradient = split_loss(z[0], y[0], cuts, rng.permutation(len(cuts) + 1))
        differing += np.count_nonzero(narrow(nll) != whole[0][0])
        differing += np.count_nonzero(narrow(gradient) != whole[1][0])
    assert differing == 0


def test_plain_sums_of_shards_do_differ():
    """The test of the test: in float64, where it can be seen in so few numbers."""
    z, _ = batch()
    rng, found = np.random.default_rng(1), set()
    for _ in range(50):
        order = rng.permutation(z.shape[-1])
        e = np.exp(z[0, 5].astype("float64") - z[0, 5].max())[order]
        coarse = (e + M) - M
        found.add((e.sum(), coarse.sum() + (e - coarse).sum()))
    assert len({plain for plain, _ in found}) > 1
    assert len({exact for _, exact in found}) == 1


@pytest.mark.parametrize("flags", ["average_both", "sum_both", "average_time"])
def test_orders_of_the_tokens(flags):
    rng = np.random.default_rng(2)
    z, y = rng.normal(0, 3, (4, 75, 9)).astype("float32"), rng.integers(0, 9, (4, 75))
    w = (rng.integers(0, 3, (4, 75)) * rng.uniform(0.5, 2, (4, 75))).astype("float32")
    whole, gradient = seqloss.sequence_loss_and_grad(z, y, w, **cases.FLAGS[flags], exact=True)
    differing = 0
    for _ in range(SPLITS):
        order = rng.permutation(75)
        moved = z[:, order], y[:, order], w[:, order]
        loss, other = seqloss.sequence_loss_and_grad(*moved, **cases.FLAGS[flags], exact=True)
        differing += np.count_nonzero(loss != whole) + np.count_nonzero(other != gradient[:, order])
    assert differing == 0
