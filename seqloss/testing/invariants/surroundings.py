"""The same question asked otherwise: again, compiled, without gradients, mapped, under other settings."""

import numpy as np

from seqloss.testing.invariants.invariant import invariant
from seqloss.testing.invariants.probe import Probe
from seqloss.testing.invariants.subject import Answer, Batch, NotApplicable


@invariant(needs="modes")
def compiled_is_eager(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Compiled code gives the results of eager code, also of other arrays and behind masks, and NaN where that does."""
    modes = probe.subject.modes
    if not modes:
        raise NotApplicable("there is no compiled form")
    masked = np.broadcast_to((batch.weights == 0)[..., None], batch.logits.shape)
    cases = {"": batch, " for other arrays of the same shapes": probe.fit(other(batch))}
    if masked.any():
        poisoned = np.where(masked, np.float32(np.nan), batch.logits)
        cases[" with NaN logits behind the mask"] = batch._replace(logits=poisoned)
    for what, case in cases.items():
        eager = probe.attempt(case)
        if isinstance(eager, Exception):
            continue
        for mode in modes:
            compiled = probe.ask_mode(mode, case)
            _nan_alike(probe, compiled, eager, case, f"in {mode}{what}")


@invariant()
def repeated_calls(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A call leaves nothing behind: the next one knows its own arrays alone, and the same again give the same."""
    changed = probe.fit(other(batch))
    cases = (batch, Batch(*(x[:1, :1] for x in changed)), changed)
    first = [probe.ask(case) for case in cases]
    for case, before in [*zip(cases, first, strict=True)][::-1]:
        probe.agree(probe.ask(case), before.value, before.dlogits, case, "when it is asked for again, after others")


@invariant(needs="unrecorded")
def without_gradients(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """The value is the same where no gradient is recorded, as in an evaluation."""
    if not probe.subject.unrecorded:
        raise NotApplicable("gradients are returned, not recorded")
    expected = probe.ask(batch).value
    for name, value in probe.subject.unrecorded.items():
        got = np.asarray(probe.called(value, batch), np.float64)
        if got.shape != ():
            probe.fail(f"the shape of the value {name}", (), got.shape, batch)
        probe.close(f"the value {name}", got, expected, batch, least=1.0)


@invariant(needs="surroundings")
def other_settings(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """What else a program has set does not change a loss of these arrays."""
    if not probe.subject.surroundings:
        raise NotApplicable("the framework has no such settings")
    probe.alike(probe.subject.surroundings, batch, "under {}")


@invariant(needs="vmapped")
def mapped(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """What the framework maps over a stack of batches is what each batch gives by itself."""
    if probe.subject.vmapped is None:
        raise NotApplicable("there is nothing that maps it")
    batches = batch, probe.fit(other(batch))
    alone = [probe.ask(each) for each in batches]
    stack = Batch(*(np.stack(pair) for pair in zip(*batches, strict=True)))
    try:
        values, dlogits = probe.subject.vmapped(*stack)
    except NotApplicable:
        raise
    except Exception as error:  # a refusal, whatever its class
        probe.note(f"refused: {type(error).__name__}")
        return
    for i, (each, answer) in enumerate(zip(batches, alone, strict=True)):
        got = answer._replace(value=np.asarray(values[i], np.float64), dlogits=dlogits[i])
        probe.agree(got, answer.value, answer.dlogits, each, f"of batch {i} of two that are mapped")


def other(batch: Batch) -> Batch:
    """Other arrays of the same shapes."""
    labels = (batch.targets + 1) % batch.logits.shape[-1]
    return Batch(-batch.logits, labels, batch.weights[::-1].copy())


def _nan_alike(probe: Probe, got: Answer, expected: Answer, batch: Batch, under: str) -> None:
    """NaN in the same places, and close elsewhere."""
    for what, a, e in (("value", got.value, expected.value), ("gradient", got.dlogits, expected.dlogits)):
        if not np.array_equal(np.isnan(a), np.isnan(e)):
            probe.fail(f"the {what} {under}", e, a, batch)
    numbers = [np.where(np.isnan(x), 0, x) for x in (got.value, got.dlogits, expected.value, expected.dlogits)]
    probe.agree(got._replace(value=numbers[0], dlogits=numbers[1]), numbers[2], numbers[3], batch, under)
