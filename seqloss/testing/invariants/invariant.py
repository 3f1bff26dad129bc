"""An invariant: the arrays that it needs, and what must hold for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from seqloss.testing.invariants.batches import draw
from seqloss.testing.invariants.probe import Probe
from seqloss.testing.invariants.subject import Batch, Loss, Seed, Subject

Draw = Callable[[np.random.Generator], Batch]
Check = Callable[[Probe, Batch, np.random.Generator], None]

UNSHIFTED = {
    "z_loss": "a z-loss is another one where a constant is added to all logits",
    "softcap": "behind a cap logits are others where a constant is added to all",
}
"""The parts of an objective that see a constant which is added to all logits of a token."""
FEW = dict.fromkeys(("class_weights", "prior"), "the numbers for each class say how many classes there are")
"""The parts that fix the number of classes."""


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
    unless : mapping of str to str
        The parts of an objective with which it is no law, and why: "label_smoothing", "centred", "prior",
        "class_weights", "z_loss" or "softcap".
    """

    name: str
    summary: str
    draw: Draw
    check: Check
    needs: str = ""
    half: bool = False
    unless: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, loss: Loss | Subject, seed: Seed = 0) -> None:
        rng = np.random.default_rng(seed)
        probe = Probe(loss, self.name)
        self.check(probe, probe.drawn(self.draw, rng), rng)


def invariant(
    draw: Draw = draw, *, needs: str = "", half: bool = False, unless: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Check], Invariant]:
    """Make an invariant of its check, whose name and first sentence are those of the invariant."""

    def made(check: Check) -> Invariant:
        summary = (check.__doc__ or "").partition("\n")[0]

        def applied(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
            probe.lacks(unless)
            check(probe, batch, rng)

        return Invariant(check.__name__, summary, draw, applied, needs, half, unless)

    return made
