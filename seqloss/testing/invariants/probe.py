"""Asking a loss under test, and judging its answers."""

from collections.abc import Callable
from typing import Any, NamedTuple, Never

import numpy as np

Array = Any
Loss = Callable[[Array, Array, Array], tuple[Any, Array]]
Seed = int | np.random.Generator

SLACK = 64 * 2.0**-23
"""What float32 losses may differ by, relative to the largest number in sight: the naive formulas stay within it on
ordinary logits. Only ``confident_tokens`` asks for more."""


class InvariantViolation(AssertionError):
    """A loss breaks an invariant. The text names it and shows expected, got and the arrays."""


class Batch(NamedTuple):
    """logits [batch, time, classes], targets and weights [batch, time]."""

    logits: Array
    targets: Array
    weights: Array


class Answer(NamedTuple):
    """What a loss said: its value in float64, of rank 0, and its gradient."""

    value: Array
    dlogits: Array


class Probe:
    """A loss under test, together with the invariant that it is tested for."""

    def __init__(self, loss: Loss, invariant: str) -> None:
        self.loss = loss
        self.invariant = invariant

    def ask(self, batch: Batch) -> Answer:
        """The answer of the loss. An exception is a violation."""
        answer = self.attempt(batch)
        if isinstance(answer, Exception):
            raise InvariantViolation(self._text("an exception", "an answer", repr(answer), batch)) from answer
        return answer

    def attempt(self, batch: Batch) -> Answer | Exception:
        """The answer of the loss, of the right form and with the arrays unwritten; or the exception that it raised."""
        given = Batch(*(x.copy() for x in batch))
        try:
            value, dlogits = self.loss(*given)
        except Exception as error:  # whatever it is, the invariant decides what it means
            return error
        for name, before, after in zip(Batch._fields, batch, given, strict=True):
            if before.tobytes() != after.tobytes():
                self.fail(f"{name}, which the loss wrote into,", before, after, batch)
        answer = Answer(np.asarray(value, np.float64), np.asarray(dlogits))
        for name, got, shape in (("value", answer.value, ()), ("gradient", answer.dlogits, batch.logits.shape)):
            if got.shape != shape:
                self.fail(f"the shape of the {name}", shape, got.shape, batch)
        return answer

    def close(self, what: str, got: Array, expected: Array, batch: Batch, least: float = 0.0) -> None:
        """``got`` is within the slack of ``expected``, at the scale of its largest entry or of ``least``."""
        scale = np.abs(expected).max(initial=least)
        # Written so that NaN fails.
        if not np.all(np.abs(got - expected) <= SLACK * scale):
            self.fail(what, expected, got, batch)

    def same(self, what: str, got: Array, expected: Array, batch: Batch) -> None:
        """``got`` equals ``expected`` exactly; -0 is 0, and NaN is nothing."""
        if not np.array_equal(got, np.broadcast_to(expected, np.shape(got))):
            self.fail(what, expected, got, batch)

    def agree(self, answer: Answer, value: Array, dlogits: Array, batch: Batch, under: str) -> None:
        """Value and gradient are close to what they must be; a value is judged at the scale of a nat."""
        self.close(f"the value {under}", answer.value, value, batch, least=1.0)
        self.close(f"the gradient {under}", answer.dlogits, np.asarray(dlogits, np.float64), batch)

    def fail(self, what: str, expected: Any, got: Any, batch: Batch) -> Never:
        raise InvariantViolation(self._text(what, expected, got, batch))

    def _text(self, what: str, expected: Any, got: Any, batch: Batch) -> str:
        arrays = "\n".join(f"  {name} = {_small(x)}" for name, x in zip(Batch._fields, batch, strict=True))
        return f"{self.invariant}: {what} must be {_small(expected)}, got {_small(got)}, for\n{arrays}"


def _small(x: Any) -> str:
    """An array in a few lines at most, anything else as it prints."""
    if not isinstance(x, np.ndarray) or x.ndim == 0:
        return str(x)
    text = np.array2string(x, threshold=60, edgeitems=2, precision=8, max_line_width=120, separator=", ")
    return f"{x.dtype.name}{list(x.shape)}\n{text}"


def draw(rng: np.random.Generator, batch: int = 2, time: int = 3, classes: int = 4) -> Batch:
    """Ordinary arrays: float32 logits, weights of 0.25 … 2 whose sums are exact in any order, two tokens masked."""
    logits = rng.normal(0, 2, (batch, time, classes)).astype(np.float32)
    targets = rng.integers(0, classes, (batch, time))
    weights = (rng.integers(1, 9, (batch, time)) / 4).astype(np.float32)
    weights[0, time // 2 :] = 0
    return Batch(logits, targets, weights)
