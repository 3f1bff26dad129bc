"""Asking a loss under test, and judging its answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Never

import numpy as np

from seqloss.testing import tolerances
from seqloss.testing.invariants.batches import LACKING, confident, fitting, of_classes, relabelled
from seqloss.testing.invariants.reference import Reference, cap_slack, parts, reference, room
from seqloss.testing.invariants.subject import (
    Answer,
    Array,
    Batch,
    InvariantViolation,
    Layer,
    Loss,
    NotApplicable,
    Subject,
)

SLACK = 64 * 2.0**-23
"""What float32 losses may differ by, relative to the largest number in sight: the naive formulas stay within it on
ordinary logits. Only ``confident_tokens`` asks for more. Where a loss returns numbers of a half-precision dtype, their
rounding is allowed beside it: that it returns such numbers is no mistake."""

HALF = 0.5
"""Units in the last place of a half-precision result that its rounding is worth, beside an exact number."""

ROUNDED_SUM = 4.0
"""And where it is the mean of numbers of that dtype: they, partial sums and the quotient are each rounded once."""


class Probe:
    """A loss under test, together with the invariant that it is tested for."""

    def __init__(self, loss: Loss | Subject, invariant: str) -> None:
        self.subject = loss if isinstance(loss, Subject) else Subject(loss)
        self.invariant = invariant
        self.objective = self.subject.objective
        self.parts = parts(self.objective)
        weights = self.objective.class_weights
        self.heaviest = 1.0 if weights is None else max(1.0, float(np.max(weights)))
        self.notes: list[str] = []
        self.asked = 0

    def ask(self, batch: Batch) -> Answer:
        """The answer of the loss. An exception is a violation."""
        return self._answered(self.attempt(batch), batch)

    def attempt(self, batch: Batch) -> Answer | Exception:
        """The answer of the loss, of the right form; or the exception that it raised."""
        return self._attempt(self.subject.loss, batch, ())

    def unwritten(self, batch: Batch) -> None:
        """The loss leaves the arrays as they are, whatever it answers."""
        given = Batch(*(x.copy() for x in batch))
        self._said(self.subject.loss, given, batch)
        for name, before, after in zip(Batch._fields, batch, given, strict=True):
            if before.tobytes() != after.tobytes():
                self.fail(f"the {name} after the call", before, after, batch)

    def ask_mode(self, mode: str, batch: Batch) -> Answer:
        """The answer of one of the compiled forms. An exception is a violation."""
        return self._answered(self._attempt(self.subject.modes[mode], batch, ()), batch)

    def ask_upstream(self, batch: Batch, cotangent: Array) -> Answer:
        """Losses and gradient for a cotangent. An exception is a violation."""
        upstream = self.subject.upstream
        if upstream is None:
            raise NotApplicable("there is no way to say what gradient arrives from above")

        def loss(logits: Array, targets: Array, weights: Array) -> Any:
            return upstream(logits, targets, weights, cotangent.copy())

        return self._answered(self._attempt(loss, batch, cotangent.shape), batch)

    def unless_refused(self, loss: Loss, batch: Batch, what: str) -> Answer | None:
        """The answer of the same loss, asked otherwise; None if it raised an exception, which is told."""
        answer = self._attempt(loss, batch, ())
        if isinstance(answer, Exception):
            self.note(f"refused {what}: {type(answer).__name__}")
            return None
        return answer

    def alike(self, ways: Mapping[str, Loss], batch: Batch, form: str) -> None:
        """The same loss, asked in other ways, gives the same or refuses; ``form`` says how, with the name of each."""
        plain = self.ask(batch)
        for name, loss in ways.items():
            answer = self.unless_refused(loss, batch, form.format(name))
            if answer is not None:
                self.agree(answer, plain.value, plain.dlogits, batch, form.format(name))

    def called(self, part: Callable[..., Any], batch: Batch | Layer, *more: Array) -> Any:
        """What another part of the subject returns for a batch. An exception is a violation."""
        copies = [None if x is None else x.copy() for x in batch]
        if isinstance(batch, Layer):
            layer = Layer(*copies)
            said = self._said(lambda *arrays: part(layer, *more), (), Batch(batch[0] @ batch[1], *batch[3:]))
        else:
            said = self._said(lambda *arrays: part(*arrays, *more), copies, batch)
        if isinstance(said, Exception):
            raise self._violation("an exception", "an answer", repr(said), batch) from said
        return said

    def note(self, text: str) -> None:
        """Something to tell of a loss that holds the invariant."""
        if text not in self.notes:
            self.notes.append(text)

    def drawn(self, draw: Callable[[np.random.Generator], Batch], rng: np.random.Generator) -> Batch:
        """A batch of so many classes as the loss has, with weights and labels that it can be asked with."""
        batch = draw(rng)
        least, most = room(self.objective)
        return self.fit(of_classes(batch, int(min(max(batch.logits.shape[-1], least), most))))

    def has_room(self, classes: int) -> bool:
        """Whether the loss can be asked with so many classes."""
        least, most = room(self.objective)
        return least <= classes <= most

    @property
    def names_classes(self) -> bool:
        """Whether a class is more than one of many, in whatever order."""
        return bool(self.parts & {"class_weights", "prior"} or self.objective.exclude)

    def fit(self, batch: Batch) -> Batch:
        """The batch with weights and labels that the loss can be asked with."""
        weights = fitting(batch.weights, self.subject.weights)
        return batch._replace(targets=np.where(weights != 0, self._named(batch), batch.targets), weights=weights)

    def _named(self, batch: Batch) -> Array:
        """The labels, and in the place of one that takes a token out, or whose class counts nothing, the next."""
        avoided = np.arange(batch.logits.shape[-1]) == self.subject.ignore_label
        if self.objective.class_weights is not None and self.has_room(avoided.size):
            avoided |= np.equal(self.objective.class_weights, 0)
        return relabelled(batch.targets, avoided)

    def confident(self, batch: Batch, margins: Array) -> Batch:
        """The tokens with their targets in the lead by the margins, or behind. All of them count."""
        return confident(self.fit(batch._replace(weights=np.ones_like(batch.weights))), margins)

    def needs(self, *weights: str) -> None:
        """The invariant is about weights: it says nothing of a loss that takes none of these."""
        if self.subject.weights not in weights:
            raise NotApplicable(f"the loss takes {LACKING[self.subject.weights]}")

    def lacks(self, unless: Mapping[str, str]) -> None:
        """The invariant is no law of a loss with one of these parts; each is named with the reason."""
        for part, reason in unless.items():
            if part in self.parts:
                raise NotApplicable(reason)

    def needs_mask(self) -> None:
        """The invariant is about tokens that do not count."""
        self.needs("any", "binary", "prefix")

    def close(
        self,
        what: str,
        got: Array,
        expected: Array,
        batch: Batch | Layer,
        least: float = 0.0,
        *,
        dtype: str = "float32",
        units: float = 1.0,
        slack: float = SLACK,
        digits: float = 0.0,
        kind: str = "numbers",
    ) -> None:
        """``got`` is within the slack of ``expected``, at the scale of its largest entry or of ``least``.

        ``dtype`` is that of the numbers which were returned. A half-precision one is allowed ``units`` of its own in
        the last place: half of one beside an exact number, and a whole one beside another answer. Within ``digits`` no
        more is lost than digits.
        """
        allowed = slack * np.abs(expected).max(initial=least)
        if dtype in ("float16", "bfloat16"):
            allowed = allowed + units * tolerances.unit(np.fmax(np.abs(got), np.abs(expected)), dtype)
        # Written so that NaN fails.
        if not np.all(np.abs(got - expected) <= allowed):
            is_close = np.all(np.abs(got - expected) <= digits)
            self.fail(what, expected, got, batch, "digits" if is_close else kind)

    def same(self, what: str, got: Array, expected: Array, batch: Batch | Layer) -> None:
        """``got`` equals ``expected`` exactly; -0 is 0, and NaN is nothing."""
        if not np.array_equal(got, np.broadcast_to(expected, np.shape(got))):
            self.fail(what, expected, got, batch)

    def agree(
        self, answer: Answer, value: Array, dlogits: Array, batch: Batch, under: str, *, least: float = 1.0, **how: Any
    ) -> None:
        """Value and gradient are close to what they must be; a value is judged at the scale of a nat, or of ``least``.

        ``how`` is that of :meth:`close`.
        """
        value, dlogits = (np.asarray(x, np.float64) for x in (value, dlogits))
        self.close(f"the value {under}", answer.value, value, batch, least=least, dtype=answer.value_dtype, **how)
        self.close(f"the gradient {under}", answer.dlogits, dlogits, batch, dtype=answer.gradient_dtype, **how)

    def right(self, answer: Answer, batch: Batch, under: str, **how: Any) -> None:
        """Value and gradient are those of the reference."""
        expected = self.reference(batch)
        least = max(1.0, float(expected.loss_scale))
        slack = SLACK + cap_slack(batch.logits, self.objective)
        self.agree(answer, expected.loss, expected.dlogits, batch, under, units=HALF, least=least, slack=slack, **how)

    def reference(self, batch: Batch) -> Reference:
        """What the loss must be by its objective."""
        return reference(batch, self.objective)

    def fail(self, what: str, expected: Any, got: Any, batch: Batch | Layer, kind: str = "numbers") -> Never:
        raise self._violation(what, expected, got, batch, kind)

    def _answered(self, answer: Answer | Exception, batch: Batch) -> Answer:
        if isinstance(answer, Exception):
            raise self._violation("an exception", "an answer", repr(answer), batch) from answer
        return answer

    def _attempt(self, loss: Loss, batch: Batch, shape: tuple[int, ...]) -> Answer | Exception:
        said = self._said(loss, Batch(*(x.copy() for x in batch)), batch)
        if isinstance(said, Exception):
            return said
        answer = read(said)
        expected = {"value": (answer.value, shape), "gradient": (answer.dlogits, batch.logits.shape)}
        for name, (got, wanted) in expected.items():
            if got.shape != wanted:
                self.fail(f"the shape of the {name}", wanted, got.shape, batch)
        return answer

    def _said(self, loss: Loss, given: Sequence[Array], batch: Batch) -> Any:
        """What the loss returned, or the exception that it raised. One that ends the program is a violation."""
        if not self.has_room(batch.logits.shape[-1]):
            raise NotApplicable(f"the loss has not {batch.logits.shape[-1]} classes")
        self.asked += 1
        try:
            return loss(*given)
        except NotApplicable:
            raise
        except Exception as error:  # whatever it is, the invariant decides what it means
            return error
        except SystemExit as error:
            raise self._violation("an exception", "an answer", repr(error), batch) from error

    def _violation(
        self, what: str, expected: Any, got: Any, batch: Batch | Layer, kind: str = "numbers"
    ) -> InvariantViolation:
        arrays = "\n".join(f"  {name} = {small(x)}" for name, x in batch._asdict().items() if x is not None)
        violation = InvariantViolation(
            f"{self.invariant}: {what} must be {small(expected)}, got {small(got)}, for\n{arrays}"
        )
        violation.what, violation.expected, violation.got, violation.batch = what, expected, got, batch
        violation.kind = kind
        return violation


def read(said: Any) -> Answer:
    """What a loss returned as an :class:`Answer`."""
    if isinstance(said, Answer):
        return said._replace(value=np.asarray(said.value, np.float64))
    value, dlogits = (np.asarray(x) for x in said)
    return Answer(value.astype(np.float64), dlogits, value.dtype.name, dlogits.dtype.name)


def small(x: Any) -> str:
    """An array in a few lines at most, anything else as it prints."""
    if not isinstance(x, np.ndarray) or x.ndim == 0:
        return str(x)
    text = np.array2string(x, threshold=60, edgeitems=2, precision=8, max_line_width=120, separator=", ")
    return f"{x.dtype.name}{list(x.shape)}\n{text}"
