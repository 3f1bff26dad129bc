"""The smallest batch for which an invariant is still violated."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from seqloss.testing.invariants import Batch, Invariant, InvariantViolation, NotApplicable, Subject
from seqloss.testing.invariants.probe import Probe

FEW = 8
"""Up to this many rows, steps or classes are dropped one by one."""
ENTRIES = 64
"""Up to this many numbers are changed one by one."""


class Smallest(NamedTuple):
    """A batch for which an invariant is violated, and how."""

    batch: Batch
    violation: InvariantViolation


def sort(violation: InvariantViolation) -> tuple[Any, ...]:
    """What a smaller example must have in common with the first: what went wrong, and how it looks."""
    got, expected = violation.got, violation.expected
    if isinstance(got, str):  # an exception, of which the class matters
        return violation.kind, got.partition("(")[0]
    if not all(
        isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind == "f" for x in map(np.asarray, (got, expected))
    ):
        return violation.kind, type(got).__name__
    return violation.kind, *(bool(np.isfinite(x).all()) for x in (got, expected))


class Violating:
    """Asks again whether an invariant is violated as it was, as long as there are calls left."""

    def __init__(self, subject: Subject, invariant: Invariant, seed: int, calls: int, like: InvariantViolation) -> None:
        self.subject, self.invariant, self.seed, self.calls, self.sort = subject, invariant, seed, calls, sort(like)

    def __call__(self, batch: Batch) -> InvariantViolation | None:
        # If no token counts, a mean of 0 / 0 would look like another mistake.
        if self.calls <= 0 or batch.weights.sum() == 0:
            return None
        probe = Probe(self.subject, self.invariant.name)
        try:
            self.invariant.check(probe, batch, generator(self.seed))
        except InvariantViolation as violation:
            return violation if sort(violation) == self.sort else None
        except NotApplicable:
            return None
        finally:
            self.calls -= max(probe.asked, 1)
        return None


def generator(seed: int) -> np.random.Generator:
    """The random numbers of a check, apart from those of the batch. They start anew for every batch."""
    return np.random.default_rng([seed, 1])


def smallest(violating: Violating, start: Smallest) -> Smallest:
    """Fewer rows, time steps and classes, then plainer numbers, until nothing helps; the same for the same start."""
    found = start
    while True:
        before = found.batch
        for simpler in (_fewer, _plainer):
            found = simpler(violating, found)
        if violating.calls <= 0 or all(np.array_equal(x, y) for x, y in zip(before, found.batch, strict=True)):
            return found


def _fewer(violating: Violating, found: Smallest) -> Smallest:
    if found.batch.logits.shape[2] > FEW:
        found = _halved(violating, found, 2)
    for axis, least in ((0, 1), (1, 1), (2, 2)):
        if axis < 2:
            found = _halved(violating, found, axis)
        size = found.batch.logits.shape[axis]
        for at in reversed(range(size if size <= FEW else 0)):
            if found.batch.logits.shape[axis] > least:
                found = _tried(violating, found, _without(found.batch, axis, at))
    return found


def _halved(violating: Violating, found: Smallest, axis: int) -> Smallest:
    """Few of the first rows, steps or classes, by bisection.

    Of many not the fewest, since each shape may have to be compiled.
    """
    enough, too_few = found.batch.logits.shape[axis], 0 if axis < 2 else 1
    while enough - too_few > max(1, enough // FEW):
        middle = (enough + too_few) // 2
        shorter = _tried(violating, found, _first(found.batch, axis, middle))
        if shorter is found:
            too_few = middle
        else:
            found, enough = shorter, middle
    return found


def _first(batch: Batch, axis: int, size: int) -> Batch:
    """The first rows, time steps or classes; a token of a class that is gone gets the last that is left."""
    if axis < 2:
        return Batch(*(x.take(range(size), axis) for x in batch))
    return batch._replace(logits=batch.logits[..., :size], targets=np.minimum(batch.targets, size - 1))


def _without(batch: Batch, axis: int, at: int) -> Batch:
    """Without one row, time step or class; a token of that class gets the one before, or the first."""
    if axis < 2:
        return Batch(*(np.delete(x, at, axis) for x in batch))
    targets = np.where(batch.targets >= max(at, 1), batch.targets - 1, batch.targets)
    return batch._replace(logits=np.delete(batch.logits, at, axis), targets=targets)


def _plainer(violating: Violating, found: Smallest) -> Smallest:
    for change in (_plain_logits, _plain_targets, _plain_weights):
        for candidate in change(found.batch):
            found = _tried(violating, found, candidate)
    for name in Batch._fields:
        size = getattr(found.batch, name).size
        for at in range(size if size <= ENTRIES else 0):
            entries = getattr(found.batch, name)
            plain = 1 if name == "weights" and entries.flat[at] else 0
            if entries.flat[at] != plain:
                changed = entries.copy()
                changed.flat[at] = plain
                found = _tried(violating, found, found.batch._replace(**{name: changed}))
    return found


def _plain_logits(batch: Batch) -> Iterator[Batch]:
    yield batch._replace(logits=np.zeros_like(batch.logits))
    yield batch._replace(logits=np.sign(batch.logits) + 0)
    yield batch._replace(logits=np.rint(batch.logits) + 0)


def _plain_targets(batch: Batch) -> Iterator[Batch]:
    yield batch._replace(targets=np.zeros_like(batch.targets))


def _plain_weights(batch: Batch) -> Iterator[Batch]:
    yield batch._replace(weights=np.ones_like(batch.weights))
    yield batch._replace(weights=(batch.weights != 0).astype(batch.weights.dtype))


def _tried(violating: Callable[[Batch], InvariantViolation | None], found: Smallest, batch: Batch) -> Smallest:
    """The simpler batch if it violates the invariant too, else what was found before."""
    if all(np.array_equal(x, y) for x, y in zip(batch, found.batch, strict=True)):
        return found
    violation = violating(batch)
    return found if violation is None else Smallest(batch, violation)
