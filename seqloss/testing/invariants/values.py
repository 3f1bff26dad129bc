"""What the numbers themselves must be."""

from functools import partial

import numpy as np

from seqloss.testing import tolerances
from seqloss.testing.invariants.batches import confident, draw
from seqloss.testing.invariants.invariant import FEW, UNSHIFTED, invariant
from seqloss.testing.invariants.probe import HALF, ROUNDED_SUM, SLACK, Probe
from seqloss.testing.invariants.subject import Batch


@invariant()
def one_hot(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Integer targets are one-hot distributions: ``-sum(onehot * log_softmax(logits))`` for each token."""
    if probe.parts:
        probe.right(probe.ask(batch), batch, "against its objective")
        return
    z, w = batch.logits.astype(np.float64), batch.weights.astype(np.float64)
    onehot = np.eye(z.shape[-1])[batch.targets]
    softmax = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    total = w.sum() or 1
    value = (w * -(onehot * np.log(softmax)).sum(-1)).sum() / total
    dlogits = w[..., None] / total * (softmax - onehot)
    probe.agree(probe.ask(batch), value, dlogits, batch, "against one-hot targets", units=HALF)


@invariant(unless={"centred": "a smoothed loss less its entropy may be below 0"})
def non_negative(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A cross entropy is at least 0, most of all for a model that is sure."""
    for margin in (0.0, 5.0, 60.0):
        sure = probe.confident(batch, margin)
        value = probe.ask(sure).value
        if not value >= 0:
            probe.fail(f"the value at a margin of {margin:g}", "at least 0", value, sure)


@invariant(unless=UNSHIFTED)
def gradient_rows(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """The gradient of a token adds up to 0, because a constant added to its logits changes nothing."""
    answer = probe.ask(batch)
    dlogits = answer.dlogits.astype(np.float64)
    sums, allowed = dlogits.sum(-1), SLACK * np.abs(dlogits).max(-1)
    if answer.gradient_dtype in ("float16", "bfloat16"):
        allowed = allowed + HALF * tolerances.unit(dlogits, answer.gradient_dtype).sum(-1)
    if not np.all(np.abs(sums) <= allowed):
        probe.fail("the sums of the gradient rows", np.zeros_like(sums), sums, batch)


def _sure_and_unsure(rng: np.random.Generator) -> Batch:
    # Beyond 16 the differences of the usual formulas are 0 in float32: that is for confident_tokens to say.
    margins = rng.uniform(-12, 12, (3, 4))
    return confident(draw(rng, 3, 4), margins)


@invariant(
    _sure_and_unsure,
    unless={
        "label_smoothing": "smoothed labels want no more of the target than their share",
        "z_loss": "a z-loss is less for lower logits, that of the target too",
        "softcap": "behind a cap the slope may be rounded to 0",
    },
)
def gradient_sign(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """More of the target always helps and more of anything else always hurts, whether the model is right or wrong."""
    dlogits = probe.ask(batch).dlogits
    sign = np.where(np.arange(dlogits.shape[-1]) == batch.targets[..., None], -1.0, 1.0)
    probe.same("the sign of the gradient", np.sign(dlogits), sign, batch)


@invariant(partial(draw, batch=1, time=1))
def confident_tokens(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Loss and target gradient keep their relative accuracy when the target leads by 20 … 60.

    In float32 ``logsumexp - logit`` and ``p - 1`` are exactly 0 there. One token at a time: in a mean only the least
    confident one would be seen.
    """
    for margin in (20.0, 33.0, 60.0):
        sure = probe.confident(batch, margin)
        answer, expected = probe.ask(sure), probe.reference(sure)
        bound, slope_bound = tolerances.capped_bound(sure.logits, probe.objective.softcap)
        target = (0, 0, sure.targets[0, 0])
        slope, true_slope, size = (x[target] for x in (answer.dlogits, expected.dlogits, expected.dlogits_scale))
        for what, got, number, dtype, allowed, scale in (
            ("the value", answer.value, expected.loss, answer.value_dtype, bound, expected.loss_scale),
            ("the gradient at the target", slope, true_slope, answer.gradient_dtype, slope_bound[target], size),
        ):
            dtype = dtype if dtype in ("float16", "bfloat16") else "float32"
            if not np.all(tolerances.excess(got, number, dtype, allowed, scale, compute="float32") <= 1):
                lost = LOST * max(probe.heaviest, float(expected.loss_scale))
                kind = "digits" if abs(got - number) <= lost else "numbers"
                probe.fail(f"{what} at a margin of {margin:g}", np.float32(number), got, sure, kind)


LOST = 2.0**-22
"""What the usual formulas lose of a loss: the rounding of numbers near 1."""

MANY, MORE, MOST = 1031, 4099, 60_013
"""Numbers of classes. All are prime, so that blocks of any size leave a rest; two are just beyond a power of two."""


def _many_classes(rng: np.random.Generator) -> Batch:
    """Three tokens of the first, a middle and the last class, whose largest logit is that of another one."""
    logits = rng.normal(0, 2, (1, 3, MOST)).astype(np.float32)
    # Together the others are about as likely: no class can be left out.
    logits[0, range(3), [-1, 0, MANY // 3]] = logits.max() + 3
    return Batch(logits, np.array([[0, MOST // 2, MOST - 1]]), np.ones((1, 3), np.float32))


@invariant(_many_classes, unless=FEW)
def many_classes(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Value and gradient are right for thousands of classes, in the first of them and in the last."""
    classes = batch.logits.shape[-1]
    for size in sorted({min(MANY, classes), min(MORE, classes), classes}):
        # The first and the last of them, so that those which stand out stay.
        front, dropped = size // 2, classes - size
        logits = np.concatenate([batch.logits[..., :front], batch.logits[..., front + dropped :]], -1)
        targets = np.where(batch.targets < front, batch.targets, np.maximum(batch.targets - dropped, front))
        kept = probe.fit(Batch(logits, targets, batch.weights))
        probe.right(probe.ask(kept), kept, f"for {size} classes")


def _equal_logits(rng: np.random.Generator, batch: int, time: int) -> Batch:
    targets = rng.integers(0, 2, (batch, time))
    return Batch(np.zeros((batch, time, 2), np.float32), targets, np.ones((batch, time), np.float32))


@invariant(partial(_equal_logits, batch=7, time=143), half=True)
def count_of_1001(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """1001 tokens are 1001 tokens: bfloat16 has no such number.

    Every float dtype holds the values of these arrays: pass a loss that casts them to the dtype in question.
    """
    _counted(probe, batch)


@invariant(partial(_equal_logits, batch=70, time=1000), half=True)
def count_of_70000(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """70000 tokens are 70000 tokens: float16 ends at 65504. As ``count_of_1001``."""
    _counted(probe, batch)


def _counted(probe: Probe, batch: Batch) -> None:
    """Many equal tokens have the loss of two, whatever it is: a token that is rounded is not one that is miscounted."""
    labels = np.array([[0, 1]])
    if probe.parts:  # which may tell the two classes apart
        labels = 0 * labels
        batch = probe.fit(batch._replace(targets=0 * batch.targets))
    pair = probe.fit(Batch(np.zeros((1, 2, batch.logits.shape[-1]), np.float32), labels, np.ones((1, 2), np.float32)))
    answer, two = probe.ask(batch), probe.ask(pair)
    probe.close("the value", answer.value, two.value, batch, dtype=answer.value_dtype, units=ROUNDED_SUM)
    slopes = two.dlogits[0].astype(np.float64)
    expected = slopes[np.minimum(batch.targets, 1)] * (2 / batch.targets.size)
    # One unit of bfloat16, which has the fewest digits, or of the smallest numbers of float16.
    if not np.all(np.abs(answer.dlogits - expected) <= 2.0**-7 * np.abs(expected) + 2.0**-24):
        probe.fail("the gradient", expected, answer.dlogits, batch)
