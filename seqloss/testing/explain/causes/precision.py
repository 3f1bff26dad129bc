"""How the sums of a fraction are added up and divided."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqloss.testing.explain import half
from seqloss.testing.explain.causes.choice import Axis, Choice, documented
from seqloss.testing.explain.inputs import Fraction, Situation

Array = Any
Sum = Callable[[Array, str], Array]


def exact(fraction: Fraction, _: Situation) -> float:
    return mean(fraction.above.sum(-1), fraction.below.sum(-1), fraction.skip_empty)


def halved(dtype: str, above: Sum | None, below: Sum | None, terms: bool = False) -> Callable[..., float]:
    """Sums in half precision above the line, below it, or both; with ``terms`` each summand is rounded by itself."""

    def step(fraction: Fraction, _: Situation) -> float:
        upper, lower = fraction.above, fraction.below
        upper = half.rounded(upper, dtype) if terms else upper
        return mean(
            above(upper, dtype) if above else upper.sum(-1),
            below(lower, dtype) if below else lower.sum(-1),
            fraction.skip_empty,
        )

    return step


def mean(above: Array, below: Array, skip_empty: bool) -> float:
    """The mean of quotients, where one with nothing below the line is 0, and left out if so asked."""
    empty = below == 0
    with np.errstate(all="ignore"):
        quotients = np.where(empty, 0, above / np.where(empty, 1, below))
        count = (~empty).sum() if skip_empty else len(quotients)
        return float(quotients.sum() / count) if count else float("nan")


HALF = 0.1
"""Each of the causes of half precision by itself is rare, and they are many."""


def _half(dtype: str) -> tuple[Choice, ...]:
    grain = half.GRAIN[dtype]
    cast = "cast losses and weights to float32 before they are added up"

    def choice(what: str, does: str, above: Sum | None, below: Sum | None, **more: Any) -> Choice:
        step = halved(dtype, above, below, more.pop("terms", False))
        coarse = grain if above else 0.0
        return Choice(f"half-precision {what} ({dtype})", does, cast, step, grain=coarse, weight=HALF, **more)

    once, one_by_one = half.once, half.one_by_one
    return (
        choice("count", f"rounds the sum of the weights to {dtype}", None, once),
        choice("count", f"adds up the weights one by one in {dtype}", None, one_by_one),
        choice("sum", f"rounds the sum of the losses to {dtype}", once, None),
        choice("sum", f"adds up the losses one by one in {dtype}", one_by_one, None),
        choice("sum and count", f"rounds both sums to {dtype}", once, once, usual=False),
        choice("sum and count", f"adds up both one by one in {dtype}", one_by_one, one_by_one, usual=False),
        choice("token losses", f"rounds the loss of each token to {dtype}", None, None, usual=False, terms=True),
    )


PRECISION = Axis("precision", (documented(exact), *_half("bfloat16"), *_half("float16")))
