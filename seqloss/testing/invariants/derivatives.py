"""What frameworks make of a loss: gradients from above, compiled programs, second derivatives."""

import numpy as np

from seqloss.testing import oracle
from seqloss.testing.invariants.invariant import invariant
from seqloss.testing.invariants.probe import Probe
from seqloss.testing.invariants.subject import Answer, Batch, NotApplicable


@invariant(needs="upstream")
def upstream_gradients(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A gradient that arrives from above is multiplied in: that of each token where each has a loss."""
    if probe.subject.scalar:
        cotangent = np.asarray(-1.5, np.float32)
    else:
        # Quarters between -2 and 2, and for a single token not 1.
        cotangent = (rng.integers(-8, 9, batch.weights.shape) / 4).astype(np.float32)
        cotangent[:1, :1] = -1.5
    plain = probe.ask_upstream(batch, np.ones_like(cotangent))
    answer = probe.ask_upstream(batch, cotangent)
    under = f"for the upstream gradient {np.array2string(cotangent, separator=', ', threshold=20)}".replace("\n", "")
    factor = cotangent if probe.subject.scalar else cotangent[..., None]
    probe.agree(answer, plain.value, factor * plain.dlogits, batch, under)


@invariant(needs="modes")
def compiled_is_eager(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Compiled code gives the results of eager code, behind masks too, and NaN where that has NaN."""
    modes = probe.subject.modes
    if not modes:
        raise NotApplicable("there is no compiled form")
    masked = np.broadcast_to((batch.weights == 0)[..., None], batch.logits.shape)
    poisoned = batch._replace(logits=np.where(masked, np.float32(np.nan), batch.logits))
    cases = {"": batch, " with NaN logits behind the mask": poisoned}
    for what, case in cases.items() if masked.any() else [("", batch)]:
        eager = probe.attempt(case)
        if isinstance(eager, Exception):
            continue
        for mode in modes:
            compiled = probe.ask_mode(mode, case)
            _nan_alike(probe, compiled, eager, case, f"in {mode}{what}")


@invariant(needs="second")
def double_backward(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """The gradient of the gradient is right, or refused with an error: never silently wrong.

    It is that of half the square of the loss. A gradient that forgets what it depends on is noticed by the framework in
    a plain loss, and not in a function of it, where the part through the upstream gradient is left.
    """
    second = probe.subject.second
    if second is None:
        raise NotApplicable("there is no gradient that could be differentiated")
    direction = (rng.integers(-8, 9, batch.logits.shape) / 4).astype(np.float32)
    try:
        got = second(batch.logits.copy(), batch.targets.copy(), batch.weights.copy(), direction.copy())
    except NotApplicable:
        raise
    except Exception as error:  # a refusal, whatever its class
        probe.note(f"refused: {type(error).__name__}")
        return
    except SystemExit as error:
        probe.fail("an exception", "a second derivative or a refusal", repr(error), batch)
    if got is None:
        probe.note("refused: there is no second gradient")
        return
    z, w, v = (x.astype(np.float64) for x in (batch.logits, batch.weights, direction))
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    hessian = (w / (w.sum() or 1))[..., None] * p * (v - (p * v).sum(-1, keepdims=True))
    reference = oracle.sequence_loss(z, batch.targets, w)
    slope = reference.dlogits.astype(np.float64)
    expected = slope * (slope * v).sum() + float(reference.loss) * hessian
    got = np.asarray(got)
    if got.shape != expected.shape:
        probe.fail("the shape of the Hessian times a direction", expected.shape, got.shape, batch)
    probe.close("the Hessian times a direction", got, expected, batch)


def _nan_alike(probe: Probe, got: Answer, expected: Answer, batch: Batch, under: str) -> None:
    """NaN in the same places, and close elsewhere."""
    for what, a, e in (("value", got.value, expected.value), ("gradient", got.dlogits, expected.dlogits)):
        if not np.array_equal(np.isnan(a), np.isnan(e)):
            probe.fail(f"the {what} {under}", e, a, batch)
    numbers = [np.where(np.isnan(x), 0, x) for x in (got.value, got.dlogits, expected.value, expected.dlogits)]
    probe.agree(got._replace(value=numbers[0], dlogits=numbers[1]), numbers[2], numbers[3], batch, under)
