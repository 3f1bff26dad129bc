"""The derivatives of a loss: upstream gradients, those of the weights, a second backward pass, second derivatives."""

import numpy as np

from seqloss.testing.invariants.invariant import invariant
from seqloss.testing.invariants.probe import Probe
from seqloss.testing.invariants.reference import hessian_product
from seqloss.testing.invariants.subject import Batch, NotApplicable
from seqloss.testing.invariants.surroundings import other


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


@invariant(needs="upstream")
def zero_upstream(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Where the gradient from above is 0, that of the logits is exactly 0."""
    if probe.subject.scalar:
        cotangent = np.zeros((), np.float32)
        nothing = np.ones(batch.weights.shape, bool)
    else:
        nothing = rng.integers(0, 2, batch.weights.shape) == 0
        nothing[:1, :1] = True
        cotangent = (~nothing).astype(np.float32)
    answer = probe.ask_upstream(batch, cotangent)
    probe.same("the gradient under an upstream gradient of 0", answer.dlogits[nothing], 0, batch)


@invariant(needs="dweights")
def weight_gradients(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """The gradient with respect to a weight is ``(nll - loss) / sum(weights)``, where the weight is not 0."""
    if probe.subject.dweights is None:
        raise NotApplicable("there is no gradient with respect to weights")
    counting = batch.weights != 0
    got = np.asarray(probe.called(probe.subject.dweights, batch), np.float64)
    if got.shape != batch.weights.shape:
        probe.fail("the shape of the gradient to the weights", batch.weights.shape, got.shape, batch)
    reference = probe.reference(batch)
    expected = np.where(counting, reference.dweights, 0).astype(np.float64)
    least = float(reference.dweights_scale.max(initial=0))
    probe.close("the gradient to the weights", np.where(counting, got, 0), expected, batch, least=least)


@invariant(needs="pullback")
def repeated_backward(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Each loss has its own gradient, whichever is asked for first, and twice the same."""
    if probe.subject.pullback is None:
        raise NotApplicable("gradients are returned, not recorded")
    second = probe.fit(other(batch))
    expected = [probe.ask(each).dlogits for each in (batch, second)]
    first_backward, second_backward = (probe.called(probe.subject.pullback, each) for each in (batch, second))
    for backward, slope, each, what in (
        (second_backward, expected[1], second, "of the second of two losses, backward first"),
        (first_backward, expected[0], batch, "of the first of two losses, backward last"),
        (first_backward, expected[0], batch, "of a second backward"),
    ):
        try:
            got = backward()
        except Exception as error:
            if what != "of a second backward":
                probe.fail("an exception", "an answer", repr(error), each)
            probe.note(f"refused a second backward: {type(error).__name__}")
            return
        probe.close(f"the gradient {what}", np.asarray(got), np.asarray(slope, np.float64), each)


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
    reference = probe.reference(batch)
    slope = reference.dlogits.astype(np.float64)
    hessian = hessian_product(batch, probe.objective, direction)
    expected = slope * (slope * direction).sum() + float(reference.loss) * hessian
    got = np.asarray(got)
    if got.shape != expected.shape:
        probe.fail("the shape of the Hessian times a direction", expected.shape, got.shape, batch)
    # A loss may have no second derivative; but then it has to say so.
    probe.close("the Hessian times a direction", got, expected, batch, kind="refusal")
