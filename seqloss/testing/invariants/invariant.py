"""An invariant: the arrays that it needs, and what must hold for them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seqloss.testing.invariants.batches import draw
from seqloss.testing.invariants.probe import Probe
from seqloss.testing.invariants.subject import Batch, Loss, Seed, Subject

Draw = Callable[[np.random.Generator], Batch]
Check = Callable[[Probe, Batch, np.random.Generator], None]


@dataclass(frozen=True)
class Invariant:
    """What every right loss has in common; called as ``invariant(loss, seed)``.

    Parameters
    ----------
    name : str
        Its name in ``INVARIANTS``.
    summary : str
        What must hold, in one sentence.
    draw : callable
        ``draw(rng) -> Batch``: arrays to check it with.
    check : callable
        ``check(probe, batch, rng)`` raises an :class:`InvariantViolation` unless it holds. It works on every smaller
        batch too, so that a failing one can be made small.
    needs : {"", "upstream", "modes", "second"}
        The part of a :class:`Subject` without which it cannot be asked.
    half : bool
        Whether it is about the numbers that a half-precision dtype has.
    """

    name: str
    summary: str
    draw: Draw
    check: Check
    needs: str = ""
    half: bool = False

    def __call__(self, loss: Loss | Subject, seed: Seed = 0) -> None:
        rng = np.random.default_rng(seed)
        probe = Probe(loss, self.name)
        self.check(probe, probe.fit(self.draw(rng)), rng)


def invariant(draw: Draw = draw, *, needs: str = "", half: bool = False) -> Callable[[Check], Invariant]:
    """Make an invariant of its check, whose name and first sentence are those of the invariant."""

    def made(check: Check) -> Invariant:
        summary = (check.__doc__ or "").partition("\n")[0]
        return Invariant(check.__name__, summary, draw, check, needs, half)

    return made
