"""Tokens that do not count, and labels that do not exist."""

import numpy as np

from seqloss.testing.invariants.probe import Array, Batch, Loss, Probe, Seed, draw


def padding(loss: Loss, seed: Seed = 0) -> None:
    """More time steps or rows of weight 0 change nothing, and have a gradient of exactly 0."""
    rng = np.random.default_rng(seed)
    probe, batch = Probe(loss, "padding"), draw(rng)
    value, dlogits = probe.ask(batch)
    for axis, what in ((0, "rows"), (1, "time steps")):
        more = draw(rng)
        padded = Batch(*(np.concatenate([x, y], axis) for x, y in zip(batch, more, strict=True)))
        padded.weights[_after(batch.weights, axis)] = 0
        answer = probe.ask(padded)
        real, added = (answer.dlogits[part(batch.weights, axis)] for part in (_before, _after))
        probe.close(f"the value after padding with {what}", answer.value, value, padded, least=1.0)
        probe.close(f"the gradient after padding with {what}", real, dlogits, padded)
        probe.same(f"the gradient of the added {what}", added, 0, padded)


def unsafe_masks(loss: Loss, seed: Seed = 0) -> None:
    """A token of weight 0 may hold anything: NaN, infinities, labels that are no class. Nothing of it is seen."""
    batch = draw(np.random.default_rng(seed))
    probe, masked = Probe(loss, "unsafe_masks"), batch.weights == 0
    clean = probe.ask(batch)
    classes = batch.logits.shape[-1]
    at_target = masked[..., None] & (np.arange(classes) == batch.targets[..., None])
    everything = np.broadcast_to(masked[..., None], batch.logits.shape)
    for what, place, poison, label in (
        ("NaN logits", everything, np.nan, None),
        ("infinite logits", everything, np.inf, None),
        ("logits of -inf", everything, -np.inf, None),
        ("a target logit of -inf", at_target, -np.inf, None),
        ("labels -100", at_target, 0.0, -100),
        ("labels that are too large", at_target, 0.0, classes),
        ("NaN logits with labels -100", everything, np.nan, -100),
    ):
        logits = np.where(place, np.float32(poison), batch.logits)
        targets = batch.targets if label is None else np.where(masked, label, batch.targets)
        poisoned = Batch(logits, targets, batch.weights)
        answer = probe.ask(poisoned)
        probe.agree(answer, *clean, poisoned, f"with {what} behind the mask")
        probe.same(f"the gradient behind a mask over {what}", answer.dlogits[masked], 0, poisoned)


def empty(loss: Loss, seed: Seed = 0) -> None:
    """A batch without tokens, or without one that counts, has the loss 0 and gradients of 0."""
    batch, probe = draw(np.random.default_rng(seed)), Probe(loss, "empty")
    for what, nothing in (
        ("all weights are 0", batch._replace(weights=np.zeros_like(batch.weights))),
        ("the batch is empty", Batch(*(x[:0] for x in batch))),
        ("there are no time steps", Batch(*(x[:, :0] for x in batch))),
    ):
        value, dlogits = probe.ask(nothing)
        probe.same(f"the value where {what}", value, 0, nothing)
        probe.same(f"the gradient where {what}", dlogits, 0, nothing)


def label_policy(loss: Loss, seed: Seed = 0) -> None:
    """A token that counts and whose label is no class: an exception, or NaN; never a number that looks right."""
    batch, probe = draw(np.random.default_rng(seed)), Probe(loss, "label_policy")
    for label in (-1, batch.logits.shape[-1], -100, 2**31 - 1):
        targets = batch.targets.copy()
        targets[1, 2] = label
        bad = batch._replace(targets=targets)
        answer = probe.attempt(bad)
        if isinstance(answer, Exception):
            continue
        value, dlogits = answer
        if not np.isnan(value):
            probe.fail(f"the value with targets[1, 2] = {label}", "an exception or NaN", value, bad)
        if not np.isnan(dlogits[1, 2]).all():
            probe.fail(f"the gradient at targets[1, 2] = {label}", "NaN in the whole row", dlogits[1, 2], bad)


def _before(like: Array, axis: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(like.shape[axis]),)


def _after(like: Array, axis: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(like.shape[axis], None),)
