"""The same numbers in arrays of other dtypes, sizes and layouts."""

from functools import partial

import numpy as np

from seqloss.testing.invariants.batches import draw
from seqloss.testing.invariants.invariant import invariant
from seqloss.testing.invariants.probe import Probe
from seqloss.testing.invariants.subject import Batch, NotApplicable

WIDER = 40_009
"""Classes that are more than the labels of an int16 can name."""

SIZES = (3, 16, 17, 30, 33)
"""Numbers of classes on both sides of the sizes in which vectors are processed."""


def _few_and_many(rng: np.random.Generator) -> Batch:
    """Three tokens among many classes, the largest logits among the first and the last."""
    logits = rng.normal(0, 1, (1, 3, WIDER)).astype(np.float32)
    logits[..., [0, 1, WIDER - 2, WIDER - 1]] += 8
    return Batch(logits, np.array([[1, 20_000, 2**15 - 1]]), np.ones((1, 3), np.float32))


@invariant(_few_and_many)
def label_dtypes(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Labels mean the same in every integer dtype that holds them, whatever the number of classes."""
    few = min(batch.logits.shape[-1], 100)
    small = probe.fit(Batch(batch.logits[..., :few], np.minimum(batch.targets, few - 1), batch.weights))
    large = probe.fit(batch)
    for case, dtypes in ((small, ("int8", "uint8", "int16", "int32")), (large, ("int16", "int32"))):
        expected = probe.ask(case)
        for dtype in dtypes:
            labels = case._replace(targets=case.targets.astype(dtype))
            answer = probe.unless_refused(probe.subject.loss, labels, f"labels of {dtype}")
            if answer is not None:
                under = f"for labels of {dtype} and {case.logits.shape[-1]} classes"
                probe.agree(answer, expected.value, expected.dlogits, labels, under)


@invariant(needs="layouts")
def memory_layouts(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """It does not matter how arrays lie in memory: transposed, with gaps, backwards."""
    if not probe.subject.layouts:
        raise NotApplicable("its arrays have one layout")
    probe.alike(probe.subject.layouts, batch, "of {} arrays")


@invariant(partial(draw, batch=3, time=4))
def sizes_of_one(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """One sequence, one time step or one token have the loss of the same ones twice."""
    for rows, steps, what in ((None, 1, "time step"), (1, None, "sequence"), (1, 1, "token")):
        one = Batch(*(x[:rows, :steps] for x in batch))
        twice = Batch(*(np.repeat(np.repeat(x, 2, 0), 2, 1) for x in one))
        answer, repeated = probe.ask(one), probe.ask(twice)
        slope = sum(repeated.dlogits[row::2, step::2] for row in (0, 1) for step in (0, 1))
        probe.agree(answer, repeated.value, slope, one, f"of one {what}")


def _each_class(rng: np.random.Generator) -> Batch:
    """Each class is the label of one token, and the largest but the label of another."""
    classes = SIZES[-1] + 32
    logits = rng.normal(0, 1, (1, classes, classes)).astype(np.float32)
    tokens = np.arange(classes)
    logits[0, tokens, tokens - 1] += 4
    return Batch(logits, tokens[None], np.ones((1, classes), np.float32))


@invariant(_each_class)
def every_class(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """No class is left out, however many there are."""
    classes = batch.logits.shape[-1]
    for size in (*(size for size in SIZES if size < classes and probe.has_room(size)), classes):
        logits, labels, weights = (x[:, :size] for x in batch)
        cut = probe.fit(Batch(logits[..., :size], np.minimum(labels, size - 1), weights))
        probe.right(probe.ask(cut), cut, f"for {size} classes")


@invariant()
def negative_weights(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A weight below 0 is a number like any other: it is subtracted, in the sum and in the denominator."""
    probe.needs("any")
    last = np.arange(batch.weights.shape[1]) == batch.weights.shape[1] - 1
    plus, minus = (np.where(kept, batch.weights, 0).astype(np.float32) for kept in (~last, last))
    minus = minus * np.float32(0.25)
    signed = batch._replace(weights=plus - minus)
    total = signed.weights.sum()
    if not plus.any() or not minus.any() or abs(total) < 0.25:
        return
    answer = probe.unless_refused(probe.subject.loss, signed, "weights below 0")
    if answer is None:
        return
    parts = [probe.ask(batch._replace(weights=weights)) for weights in (plus, minus)]
    shares = plus.sum() / total, -minus.sum() / total
    value = sum(share * part.value for share, part in zip(shares, parts, strict=True))
    slope = sum(share * part.dlogits for share, part in zip(shares, parts, strict=True))
    probe.agree(answer, value, slope, signed, "with weights below 0")


@invariant()
def bool_weights(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A mask of bools or integers is one of zeros and ones."""
    probe.needs("any")
    mask = batch._replace(weights=(batch.weights != 0).astype(np.float32))
    plain = probe.ask(mask)
    for dtype in ("bool", "int32"):
        other = mask._replace(weights=mask.weights.astype(dtype))
        answer = probe.unless_refused(probe.subject.loss, other, f"weights of {dtype}")
        if answer is not None:
            probe.agree(answer, plain.value, plain.dlogits, other, f"with weights of {dtype}")


STEP = 2.0**-13
"""In float64 a difference quotient over this step has about eight digits, and in float32 three."""


@invariant(needs="cast")
def double_precision(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A value and a gradient of float64 have the digits of float64: they follow the logits in small steps."""
    if probe.subject.cast is None or "float64" not in probe.subject.dtypes:
        raise NotApplicable("there is no float64")
    loss = probe.subject.cast("float64").loss
    logits = batch.logits + rng.normal(0, 1, batch.logits.shape)
    direction = rng.choice([-1.0, 1.0], logits.shape)
    answers = [
        probe.unless_refused(loss, batch._replace(logits=logits + step * direction), "float64")
        for step in (-STEP, 0.0, STEP)
    ]
    before, here, after = answers
    if before is None or here is None or after is None:
        return
    if here.value_dtype != "float64":
        probe.note(f"returns {here.value_dtype}")
        return
    slopes = [(answer.dlogits * direction).sum() for answer in (before, here, after)]
    first = (after.value - before.value) / (2 * STEP)
    second = (after.value - 2 * here.value + before.value) / STEP**2
    at = batch._replace(logits=logits)
    for what, got, expected in (
        ("the value over a step", first, slopes[1]),
        ("the gradient over a step", (slopes[2] - slopes[0]) / (2 * STEP), second),
    ):
        probe.close(what, got, expected, at, least=1.0, slack=2.0**-16, digits=2.0**-8)
