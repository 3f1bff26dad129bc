"""Tokens that no ordinary batch has, and training meets."""

from functools import partial

import numpy as np

from seqloss.testing.invariants.batches import draw
from seqloss.testing.invariants.invariant import UNSHIFTED, invariant
from seqloss.testing.invariants.probe import ROUNDED_SUM, Probe
from seqloss.testing.invariants.subject import Batch


@invariant(partial(draw, batch=1, time=1))
def hopeless_tokens(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A target that is far behind costs as much as it is behind: neither less nor infinitely much."""
    for margin in (20.0, 60.0, 300.0, 1e4, 1e30):
        hopeless = probe.confident(batch, -margin)
        probe.right(probe.ask(hopeless), hopeless, f"where the target is {margin:g} behind")


@invariant()
def impossible_classes(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A class whose logit is -inf is none of the choices: nothing of it is seen where it is not the target."""
    classes = batch.logits.shape[-1]
    ruled_out = np.arange(classes) == (batch.targets[..., None] + 1) % classes
    low, some = (
        batch._replace(logits=np.where(ruled_out, logit, batch.logits).astype(np.float32)) for logit in (-1e4, -np.inf)
    )
    answer = probe.ask(some)
    if probe.parts & {"label_smoothing", "softcap"}:
        # Smoothing or a cap makes much of a low one, and nothing of an impossible one.
        probe.right(answer, some, "beside classes of -inf")
    else:
        # So low that its exponential is 0.
        expected = probe.ask(low)
        probe.agree(answer, expected.value, expected.dlogits, some, "beside classes of -inf")
    probe.same("the gradient at logits of -inf", answer.dlogits[ruled_out], 0, some)


def _coarse(rng: np.random.Generator) -> Batch:
    """Logits around 0 in steps that every dtype has near 512 too."""
    batch = draw(rng)
    return batch._replace(logits=(4 * rng.integers(0, 3, batch.logits.shape)).astype(np.float32))


@invariant(_coarse, half=True, unless=UNSHIFTED)
def far_from_0(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Logits near 512 that a dtype holds exactly lose nothing beside those near 0, in half precision too."""
    near = probe.ask(batch)
    for sign in (-1, 1):
        far = batch._replace(logits=batch.logits + np.float32(512 * sign))
        under = f"of logits near {512 * sign}"
        probe.agree(probe.ask(far), near.value, near.dlogits, far, under, units=ROUNDED_SUM)
