"""Changes of the arrays that change the loss in a known way."""

import numpy as np

from seqloss.testing.invariants.probe import Array, Batch, Loss, Probe, Seed, draw

SIGNS = np.array([-1, 1], np.float32)


def split_batches(loss: Loss, seed: Seed = 0) -> None:
    """The losses of two halves, recombined with their sums of weights, are the loss of the whole."""
    batch, probe = draw(np.random.default_rng(seed), batch=3, time=4), Probe(loss, "split_batches")
    whole = probe.ask(batch)
    total = batch.weights.sum()
    for axis, what in ((0, "rows"), (1, "time steps")):
        halves = [Batch(*pair) for pair in zip(*(np.split(x, [2], axis) for x in batch), strict=True)]
        answers = [probe.ask(half) for half in halves]
        shares = [half.weights.sum() / total for half in halves]
        value = sum(share * answer.value for share, answer in zip(shares, answers, strict=True))
        parts = [share * answer.dlogits for share, answer in zip(shares, answers, strict=True)]
        probe.agree(whole, value, np.concatenate(parts, axis), batch, f"against its halves along the {what}")


def permutation(loss: Loss, seed: Seed = 0) -> None:
    """The order of sequences, of time steps and of classes does not matter; the gradient is reordered with them."""
    rng = np.random.default_rng(seed)
    batch, probe = draw(rng, 4, 4, 4), Probe(loss, "permutation")
    value, dlogits = probe.ask(batch)
    for axis, what in ((0, "sequences"), (1, "time steps")):
        order = _order(rng, batch.logits.shape[axis])
        moved = Batch(*(np.take(x, order, axis) for x in batch))
        probe.agree(probe.ask(moved), value, np.take(dlogits, order, axis), moved, f"with {what} in the order {order}")
    order = _order(rng, batch.logits.shape[-1])
    renamed = batch._replace(logits=batch.logits[..., order], targets=np.argsort(order)[batch.targets])
    probe.agree(probe.ask(renamed), value, dlogits[..., order], renamed, f"with classes in the order {order}")


def shift(loss: Loss, seed: Seed = 0) -> None:
    """A constant added to all logits of a token cancels, however large it is."""
    rng = np.random.default_rng(seed)
    batch, probe = draw(rng), Probe(loss, "shift")
    for size in (1e4, 1e6, 1e8):
        constants = np.float32(size) * rng.choice(SIGNS, batch.targets.shape)[..., None]
        shifted = batch._replace(logits=batch.logits + constants)
        # The sum was rounded, the difference is exact: it is what the rounded logits are without their constant.
        near_zero = batch._replace(logits=shifted.logits - constants)
        value, dlogits = probe.ask(near_zero)
        probe.agree(probe.ask(shifted), value, dlogits, shifted, f"of logits near +-{size:.0e}")


def weight_scaling(loss: Loss, seed: Seed = 0) -> None:
    """Weights are relative: times a power of two they give the same mean, bit for bit."""
    batch, probe = draw(np.random.default_rng(seed)), Probe(loss, "weight_scaling")
    value, dlogits = probe.ask(batch)
    for exponent in (-20, -1, 12):
        scaled = batch._replace(weights=batch.weights * np.float32(2.0**exponent))
        answer = probe.ask(scaled)
        probe.same(f"the value with weights times 2**{exponent}", answer.value, value, scaled)
        probe.same(f"the gradient with weights times 2**{exponent}", answer.dlogits, dlogits, scaled)


def _order(rng: np.random.Generator, size: int) -> Array:
    """A permutation of four or more that is no rotation: a loss that mixes up neighbours would pass one."""
    order = rng.permutation(size)
    if np.all(np.diff(order) % size == 1):
        order[:2] = order[1::-1]
    return order
