"""What the numbers themselves must be."""

import numpy as np

from seqloss.testing import oracle, tolerances
from seqloss.testing.invariants.probe import SLACK, Array, Batch, Loss, Probe, Seed, draw


def one_hot(loss: Loss, seed: Seed = 0) -> None:
    """Integer targets are one-hot distributions: ``-sum(onehot * log_softmax(logits))`` for each token."""
    batch, probe = draw(np.random.default_rng(seed)), Probe(loss, "one_hot")
    z, w = batch.logits.astype(np.float64), batch.weights.astype(np.float64)
    onehot = np.eye(z.shape[-1])[batch.targets]
    softmax = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    value = (w * -(onehot * np.log(softmax)).sum(-1)).sum() / w.sum()
    dlogits = w[..., None] / w.sum() * (softmax - onehot)
    probe.agree(probe.ask(batch), value, dlogits, batch, "against one-hot targets")


def non_negative(loss: Loss, seed: Seed = 0) -> None:
    """A cross entropy is at least 0, most of all for a model that is sure."""
    rng = np.random.default_rng(seed)
    probe = Probe(loss, "non_negative")
    for margin in (0.0, 5.0, 60.0):
        batch = _confident(rng, np.full((2, 3), margin))
        value = probe.ask(batch).value
        if not value >= 0:
            probe.fail(f"the value at a margin of {margin:g}", "at least 0", value, batch)


def gradient_rows(loss: Loss, seed: Seed = 0) -> None:
    """The gradient of a token adds up to 0, because a constant added to its logits changes nothing."""
    batch, probe = draw(np.random.default_rng(seed)), Probe(loss, "gradient_rows")
    dlogits = probe.ask(batch).dlogits
    sums, allowed = dlogits.sum(-1), SLACK * np.abs(dlogits).max(-1)
    if not np.all(np.abs(sums) <= allowed):
        probe.fail("the sums of the gradient rows", np.zeros_like(sums), sums, batch)


def gradient_sign(loss: Loss, seed: Seed = 0) -> None:
    """More of the target always helps and more of anything else always hurts, however sure the model is."""
    rng = np.random.default_rng(seed)
    batch, probe = _confident(rng, rng.uniform(-30, 30, (3, 4))), Probe(loss, "gradient_sign")
    dlogits = probe.ask(batch).dlogits
    sign = np.where(np.arange(dlogits.shape[-1]) == batch.targets[..., None], -1.0, 1.0)
    probe.same("the sign of the gradient", np.sign(dlogits), sign, batch)


def confident_tokens(loss: Loss, seed: Seed = 0) -> None:
    """Loss and target gradient keep their relative accuracy when the target leads by 20 … 60.

    In float32 ``logsumexp - logit`` and ``p - 1`` are exactly 0 there. One token at a time: in a mean only the least
    confident one would be seen.
    """
    rng = np.random.default_rng(seed)
    probe = Probe(loss, "confident_tokens")
    for margin in (20.0, 33.0, 60.0):
        batch = _confident(rng, np.full((1, 1), margin))
        answer, exact = probe.ask(batch), oracle.sequence_loss(*batch)
        target = (0, 0, batch.targets[0, 0])
        for what, got, expected in (
            ("the value", answer.value, exact.loss),
            ("the gradient at the target", answer.dlogits[target], exact.dlogits[target]),
        ):
            if not tolerances.ulps(got, expected, "float32") <= tolerances.token_bound(batch.logits):
                probe.fail(f"{what} at a margin of {margin:g}", np.float32(expected), got, batch)


def count_of_1001(loss: Loss, seed: Seed = 0) -> None:
    """1001 tokens are 1001 tokens: bfloat16 has no such number.

    Every float dtype holds the values of these arrays: pass a loss that casts them to the dtype in question. The value
    must be accurate in float32 whatever that is.
    """
    _counted(Probe(loss, "count_of_1001"), _equal_logits(seed, 7, 143))


def count_of_70000(loss: Loss, seed: Seed = 0) -> None:
    """70000 tokens are 70000 tokens: float16 ends at 65504. As :func:`count_of_1001`."""
    _counted(Probe(loss, "count_of_70000"), _equal_logits(seed, 70, 1000))


def _counted(probe: Probe, batch: Batch) -> None:
    answer = probe.ask(batch)
    probe.close("the value", answer.value, np.log(2.0), batch)
    expected = oracle.sequence_loss(*batch).dlogits.astype(np.float64)
    # One unit of bfloat16, which has the fewest digits, or of the smallest numbers of float16.
    if not np.all(np.abs(answer.dlogits - expected) <= 2.0**-7 * np.abs(expected) + 2.0**-24):
        probe.fail("the gradient", expected, answer.dlogits, batch)


def _equal_logits(seed: Seed, batch: int, time: int) -> Batch:
    targets = np.random.default_rng(seed).integers(0, 2, (batch, time))
    return Batch(np.zeros((batch, time, 2), np.float32), targets, np.ones((batch, time), np.float32))


def _confident(rng: np.random.Generator, margins: Array) -> Batch:
    """Tokens of weight 1 whose target leads the largest other logit by the margin."""
    batch = draw(rng, *margins.shape)
    at_target = np.arange(batch.logits.shape[-1]) == batch.targets[..., None]
    highest = np.where(at_target, -np.inf, batch.logits).max(-1)
    logits = np.where(at_target, (highest + margins)[..., None], batch.logits).astype(np.float32)
    return Batch(logits, batch.targets, np.ones_like(batch.weights))
