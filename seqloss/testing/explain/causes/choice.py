"""The rows of the table, and what they may require of the arrays before they are tried."""

from collections.abc import Callable
from typing import Any, NamedTuple

from seqloss.testing.explain.inputs import Grid, Scored, Situation

Array = Any

Needs = Callable[[Any, Situation], bool]
"""From what a step is given and what is known, whether what the step is about is there."""


def always(_: Any, __: Situation) -> bool:
    return True


class Choice(NamedTuple):
    """One way to take a step: its name, what it does, how to undo it, and the function that does it."""

    name: str
    does: str
    mend: str
    step: Callable[..., Any]
    needs: Needs = always
    """If it is False the cause does not apply, whatever it would do to the number."""
    usual: bool = True
    """Whether it is tried together with another one; the rarer forms of a cause are tried alone."""
    scales: bool = False
    """Whether it multiplies the loss by a number that does not depend on the token losses."""
    grain: float = 0.0
    """How coarse, relative to the loss, the numbers are that it can give."""
    weight: float = 1.0
    """How common it is, beside the others."""
    beside: str = ""
    """The axis of which a usual choice has to be made too; without one this is another choice."""
    not_with: tuple[Callable[..., Any], ...] = ()
    """Steps together with which it is a complicated way to something simpler."""
    free: bool = False
    """Whether it is not counted as a cause if both sides have it."""
    same: str = ""
    """What gives the same on the other side. Here and in ``does``, known numbers are given by name in braces."""
    named: Callable[[Situation], bool] = lambda known: False
    """Whether the caller has named the number that it is about."""


class Axis(NamedTuple):
    """A step of the computation: the documented choice is the first one."""

    name: str
    choices: tuple[Choice, ...]


def documented(step: Callable[..., Any]) -> Choice:
    return Choice("", "", "", step)


def call(arguments: str) -> str:
    """What gives the same is an option of the library."""
    return f"pass {arguments} to seqloss.sequence_loss"


SELDOM = 0.5
"""The weight of a cause that is rare."""


# What a step may need. A Grid and a Scored both have targets and weights.


def padding(x: Grid | Scored, _: Situation) -> bool:
    """Some positions do not count."""
    return bool((x.weights == 0).any())


def weights(x: Grid | Scored, _: Situation) -> bool:
    """They are not all 1, as if there were none."""
    return bool((x.weights != 1).any())


def shades(x: Grid | Scored, _: Situation) -> bool:
    """There are weights other than 0 and 1."""
    return bool(((x.weights != 0) & (x.weights != 1)).any())


def pad_labels(x: Grid | Scored, known: Situation) -> bool:
    return known.pad_id is not None and bool((x.targets == known.pad_id).any())


def counted_pad_labels(x: Grid | Scored, known: Situation) -> bool:
    """Labels of padding that the weights alone do not leave out."""
    return known.pad_id is not None and bool(((x.targets == known.pad_id) & (x.weights != 0)).any())


def longer_than(steps: int) -> Needs:
    """So many positions can go, and some are left."""

    def needs(x: Grid | Scored, _: Situation) -> bool:
        return bool(x.targets.shape[1] > steps)

    return needs


def both_axes(x: Grid | Scored, _: Situation) -> bool:
    """Several sequences of several steps: a single row or column is the same in both orders."""
    return bool(min(x.targets.shape) > 1)


def several_rows(x: Grid | Scored, _: Situation) -> bool:
    return len(x.targets) > 1


def several_ranks(_: Any, known: Situation) -> bool:
    return (known.world_size or 1) > 1


def several_steps(_: Any, known: Situation) -> bool:
    return (known.accumulation_steps or 1) > 1


def several_micro_batches(_: Any, known: Situation) -> bool:
    return len(known.micro_batches or ()) > 1


def every(*needed: Needs) -> Needs:
    def needs(x: Any, known: Situation) -> bool:
        return all(need(x, known) for need in needed)

    return needs
