"""What the tests of ``explain_mismatch`` share: batches, their losses under every convention, and what is told."""

from functools import cache

import explained
from explained import ACCUMULATION, EPS, PAD, RIGHT, WORLD

from seqloss.testing.explain import digits, inputs, judge, values

KNOWN = inputs.situation(10, PAD, WORLD, ACCUMULATION, None, EPS)
NAMED = KNOWN._replace(softcap=30.0, temperature=0.7, z_loss=1e-4)
"""Who names more has more that fits by accident."""

SEED = 3
"""With some seeds a half-precision sum over a count is a round number, which has too few digits to be explained."""

SINGLES = list(explained.singles())
IDS = {"ids": lambda names: " + ".join(explained.mistakes(names))}


@cache
def batch(seed=SEED, dtype="float64"):
    return explained.draw(seed, dtype)


@cache
def tables(seed=SEED, dtype="float64", known=KNOWN):
    """The losses under every convention: what takes the time."""
    grid, _ = inputs.read(batch(seed, dtype), known.softcap, known.temperature)
    return values.values(grid, known)


def explain(mine, theirs, seed=SEED, dtype="float64", rtol=None, known=KNOWN):
    """``explain_mismatch`` on a table that is made only once."""
    read = digits.number("mine", mine), digits.number("theirs", theirs)
    return judge.judge(*read, tables(seed, dtype, known), dtype, rtol)


def cause(name):
    """The name of the cause for a mistake that is made in one of several forms."""
    return name.partition(",")[0].partition(" of targets")[0].partition(" of weights")[0]


def told(found, side="theirs"):
    """The names of each set of causes that an explanation offers, if all are on one side."""
    offers = (found.causes, *found.alternatives)
    return [sorted(c.name for c in causes) for causes in offers if causes and all(c.side == side for c in causes)]


def named(names):
    return sorted(cause(name) for name in explained.mistakes(names))


def planted(**steps):
    """The names of a loss with these mistakes, by the step: tokens, cost, sums, end."""
    return tuple(steps.get(step, right) for step, right in zip(("tokens", "cost", "sums", "end"), RIGHT, strict=True))


def loss(seed=SEED, dtype="float64", **steps):
    return explained.loss(batch(seed, dtype), planted(**steps))
