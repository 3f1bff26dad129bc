"""Changes of the arrays that change the loss in a known way."""

from functools import partial

import numpy as np

from seqloss.testing.invariants.batches import draw
from seqloss.testing.invariants.invariant import UNSHIFTED, invariant
from seqloss.testing.invariants.probe import Probe
from seqloss.testing.invariants.subject import Answer, Array, Batch

SIGNS = np.array([-1, 1], np.float32)


@invariant(partial(draw, batch=3, time=4))
def split_batches(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """The losses of two halves, recombined with their sums of weights, are the loss of the whole."""
    whole = probe.ask(batch)
    total = batch.weights.sum() or 1
    for axis, what in ((0, "rows"), (1, "time steps")):
        middle = (batch.weights.shape[axis] + 1) // 2
        halves = [Batch(*pair) for pair in zip(*(np.split(x, [middle], axis) for x in batch), strict=True)]
        value, parts = 0.0, []
        for half in halves:
            share = half.weights.sum() / total
            # What the loss of a half is where nothing counts is for another invariant to say.
            answer = probe.ask(half) if half.weights.any() else Answer(np.zeros(()), np.zeros_like(half.logits))
            value = value + share * answer.value
            parts.append(share * answer.dlogits)
        probe.agree(whole, value, np.concatenate(parts, axis), batch, f"against its halves along the {what}")


@invariant(partial(draw, batch=4, time=4, classes=4))
def permutation(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """The order of sequences, of time steps and of classes does not matter; the gradient is reordered with them."""
    plain = probe.ask(batch)
    # The weights of another order may be none that the loss can be asked with.
    axes = ((0, "sequences"), (1, "time steps"))[: 1 if probe.subject.weights == "prefix" else 2]
    for axis, what in axes:
        order = _order(rng, batch.logits.shape[axis])
        moved = Batch(*(np.take(x, order, axis) for x in batch))
        dlogits = np.take(plain.dlogits, order, axis)
        probe.agree(probe.ask(moved), plain.value, dlogits, moved, f"with {what} in the order {order}")
    if probe.names_classes:
        probe.note("its classes are told apart: their order was not changed")
        return
    order = _order(rng, batch.logits.shape[-1], probe.subject.ignore_label)
    renamed = batch._replace(logits=batch.logits[..., order], targets=np.argsort(order)[batch.targets])
    dlogits = plain.dlogits[..., order]
    probe.agree(probe.ask(renamed), plain.value, dlogits, renamed, f"with classes in the order {order}")


@invariant(unless=UNSHIFTED)
def shift(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A constant added to all logits of a token cancels, however large it is."""
    for size in (1e4, 1e6, 1e8):
        constants = np.float32(size) * rng.choice(SIGNS, batch.targets.shape)[..., None]
        shifted = batch._replace(logits=batch.logits + constants)
        # The sum was rounded, the difference is exact: it is what the rounded logits are without their constant.
        near_zero = batch._replace(logits=shifted.logits - constants)
        plain = probe.ask(near_zero)
        under = f"of logits near +-{size:.0e}"
        # A sum with logits of this size has digits for no more.
        probe.agree(probe.ask(shifted), plain.value, plain.dlogits, shifted, under, digits=size * 2.0**-22)


@invariant()
def arguments_unwritten(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """The arrays that a loss is given are the same afterwards, whatever is in them."""
    probe.ask(batch)
    masked = batch.weights == 0
    logits = np.where(masked[..., None], np.float32(np.nan), batch.logits)
    for targets in (batch.targets, np.where(masked, -100, batch.targets), np.full_like(batch.targets, -1)):
        probe.unwritten(batch._replace(targets=targets))
    probe.unwritten(batch._replace(logits=logits))


@invariant()
def weight_scaling(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Weights are relative: times a power of two they give the same mean, bit for bit."""
    probe.needs("any")
    plain = probe.ask(batch)
    for exponent in (-20, -1, 12):
        scaled = batch._replace(weights=batch.weights * np.float32(2.0**exponent))
        answer = probe.ask(scaled)
        probe.same(f"the value with weights times 2**{exponent}", answer.value, plain.value, scaled)
        probe.same(f"the gradient with weights times 2**{exponent}", answer.dlogits, plain.dlogits, scaled)


def _order(rng: np.random.Generator, size: int, fixed: int | None = None) -> Array:
    """A permutation; of four or more one that is no rotation: a loss that mixes up neighbours would pass one.

    The number ``fixed`` stays where it is.
    """
    order = rng.permutation(size)
    if np.all(np.diff(order) % size == 1):
        order[:2] = order[:2][::-1].copy()
    if fixed is not None and 0 <= fixed < size:
        order = np.insert(order[order != fixed], fixed, fixed)
    return order
