"""Tokens that do not count, and labels that do not exist."""

import numpy as np

from seqloss.testing.invariants.batches import draw
from seqloss.testing.invariants.invariant import invariant
from seqloss.testing.invariants.probe import ROUNDED_SUM, Probe
from seqloss.testing.invariants.subject import Array, Batch


@invariant(half=True)
def padding(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """More time steps or rows of weight 0 change nothing, and have a gradient of exactly 0."""
    probe.needs_mask()
    plain = probe.ask(batch)
    for axis, what in ((0, "rows"), (1, "time steps")):
        more = probe.fit(draw(rng, *batch.logits.shape))
        padded = Batch(*(np.concatenate([x, y], axis) for x, y in zip(batch, more, strict=True)))
        padded.weights[_after(batch.weights, axis)] = 0
        answer = probe.ask(padded)
        real, added = (answer.dlogits[part(batch.weights, axis)] for part in (_before, _after))
        under = f"after padding with {what}"
        # Half-precision losses are added up in another order.
        probe.agree(answer._replace(dlogits=real), plain.value, plain.dlogits, padded, under, units=ROUNDED_SUM)
        probe.same(f"the gradient of the added {what}", added, 0, padded)


@invariant(half=True)
def unsafe_masks(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A token of weight 0 may hold anything: NaN, infinities, labels that are not classes. Nothing of it is seen."""
    probe.needs_mask()
    masked = batch.weights == 0
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
        probe.agree(answer, clean.value, clean.dlogits, poisoned, f"with {what} behind the mask")
        probe.same(f"the gradient behind a mask over {what}", answer.dlogits[masked], 0, poisoned)


@invariant(half=True)
def empty(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A batch without tokens, or without one that counts, has the loss 0 and gradients of 0."""
    cases = {
        "the batch is empty": Batch(*(x[:0] for x in batch)),
        "there are no time steps": Batch(*(x[:, :0] for x in batch)),
    }
    if probe.subject.weights != "ones":
        cases = {"all weights are 0": batch._replace(weights=np.zeros_like(batch.weights)), **cases}
    for what, nothing in cases.items():
        answer = probe.ask(nothing)
        probe.same(f"the value where {what}", answer.value, 0, nothing)
        probe.same(f"the gradient where {what}", answer.dlogits, 0, nothing)


@invariant(half=True)
def label_policy(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A token that counts and whose label is no class: an exception, or NaN; never a number that looks right."""
    counting = np.argwhere(batch.weights != 0)
    if not len(counting):
        return
    at = tuple(counting[-1].tolist())
    place = f"[{', '.join(map(str, at))}]"
    for label in (-1, batch.logits.shape[-1], -100, 2**31 - 1):
        if label == probe.subject.ignore_label:
            continue
        targets = batch.targets.copy()
        targets[at] = label
        bad = batch._replace(targets=targets)
        answer = probe.attempt(bad)
        if isinstance(answer, Exception):
            probe.note(f"raises {type(answer).__name__}")
            continue
        probe.note("NaN")
        if not np.isnan(answer.value):
            what, wanted = f"the value with targets{place} = {label}", "an exception or NaN"
            probe.fail(what, wanted, answer.value, bad, "refusal")
        row = answer.dlogits[at]
        if not np.isnan(row).all():
            what, wanted = f"the gradient at targets{place} = {label}", "NaN in the whole row"
            probe.fail(what, wanted, row, bad, "refusal")


def _before(like: Array, axis: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(like.shape[axis]),)


def _after(like: Array, axis: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(like.shape[axis], None),)
