"""Infinities, and the NaNs and zeros that come of them: what is too large for a dtype on the way to a loss."""

import math
from typing import Any, NamedTuple

import numpy as np

from seqloss.testing.explain.causes.costs import own
from seqloss.testing.explain.digits import Number
from seqloss.testing.explain.inputs import Grid
from seqloss.testing.explain.result import Cause, Side

Array = Any


class Sizes(NamedTuple):
    """How large the numbers are that a program may make of the inputs."""

    logit: float
    """The largest logit that is finite."""
    token: float
    """The largest finite loss of a token that counts."""
    hidden: float
    """The same of those that do not."""
    above: float
    """The weighted sum of the losses."""
    below: float
    """The sum of the weights."""
    loss: float
    dtype: str
    """That of the logits."""

    @property
    def smaller(self) -> float:
        """Where this is too large, both sums are."""
        return min(self.above, self.below)


class Way(NamedTuple):
    """A number that is too large, its effect on the loss, and how to avoid it."""

    name: str
    does: str
    mend: str
    size: str
    """Which of the sizes it is."""
    limit: str
    """What that must not exceed."""
    gives: tuple[str, ...]


class Range(NamedTuple):
    """Where a dtype ends."""

    largest: float
    exponent: float
    """exp of more is infinite."""
    depth: float
    """exp of minus this, and of anything below, is 0."""


def _range(dtype: str) -> Range:
    info = np.finfo(dtype)
    largest, smallest = float(info.max), float(info.smallest_subnormal)
    return Range(largest, math.log(largest), -math.log(smallest) + math.log(2))


NARROWEST = "float16"
# From wide to narrow. bfloat16 ends where float32 does.
RANGES = {dtype: _range(dtype) for dtype in ("float64", "float32", NARROWEST)}

CAST = "add up in float32 or wider"
WAYS = (
    Way(
        "overflow of exp(logits)",
        "takes exp of logits as large as {size:.4g}",
        "subtract the largest logit of each token before exp, as log-sum-exp does",
        "logit",
        "exponent",
        ("inf", "-inf", "nan"),
    ),
    Way(
        "underflow of a probability",
        "takes the logarithm of a probability as small as exp(-{size:.4g})",
        "compute the loss from logits, not from probabilities",
        "token",
        "depth",
        ("inf", "-inf"),
    ),
    Way(
        "infinity times weight 0",
        "takes the logarithm of a probability as small as exp(-{size:.4g}) where the weight is 0",
        "select the tokens that count before anything is multiplied, or compute the loss from logits",
        "hidden",
        "depth",
        ("nan",),
    ),
    Way("overflow of the sum", "adds up losses to {size:.4g}", CAST, "above", "largest", ("inf", "-inf")),
    Way("overflow of the count", "adds up weights to {size:.4g}", CAST, "below", "largest", ("0.0", "-0.0")),
    Way("overflow of both sums", "adds up losses and weights to {size:.4g}", CAST, "smaller", "largest", ("nan",)),
    Way(
        "overflow of the perplexity",
        "takes exp of a loss of {size:.4g}",
        "compare losses, or take exp in float64",
        "loss",
        "exponent",
        ("inf",),
    ),
)


def sizes(grid: Grid, loss: float) -> Sizes:
    counted = grid.weights != 0
    with np.errstate(all="ignore"):
        nll = own(grid)
        above, below = np.where(counted, nll * grid.weights, 0).sum(), grid.weights.sum()
    return Sizes(
        _largest(grid.logits),
        _largest(np.where(counted, nll, 0)),
        _largest(np.where(counted, 0, nll)),
        abs(float(above)),
        abs(float(below)),
        abs(loss),
        grid.logits.dtype.name if grid.logits.dtype.name in RANGES else "float64",
    )


def _largest(x: Array) -> float:
    return float(np.max(x, initial=-np.inf, where=np.isfinite(x)))


def overflows(number: Number, side: Side, sizes: Sizes) -> list[Cause]:
    """The ways from these inputs to a number without digits, each in the widest dtype that ends too early.

    One that takes a narrower dtype than that of the logits, and than the others, is left out.
    """
    found = []
    for way in WAYS:
        size = getattr(sizes, way.size)
        beyond = [dtype for dtype, ends in RANGES.items() if size > getattr(ends, way.limit)]
        if str(number.value) in way.gives and beyond:
            does = f"{way.does.format(size=size)}, where {beyond[0]} ends at {_end(beyond[0], way.limit)}"
            found.append((beyond[0], Cause(f"{way.name} ({beyond[0]})", side, does, way.mend)))
    narrow = list(RANGES).index
    enough = max([narrow(sizes.dtype), *([min(narrow(dtype) for dtype, _ in found)] if found else [])])
    return [cause for dtype, cause in found if narrow(dtype) <= enough]


def _end(dtype: str, limit: str) -> str:
    end = getattr(RANGES[dtype], limit)
    return {"largest": f"{end:.5g}", "exponent": f"exp({end:.4g})", "depth": f"exp(-{end:.4g})"}[limit]
