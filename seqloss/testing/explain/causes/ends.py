"""The last steps of the number: its unit, factors, its sign, and exp."""

import math
from collections.abc import Callable

import numpy as np

from seqloss.testing.explain.causes.choice import SELDOM, Axis, Choice, Needs, documented, several_ranks, several_steps
from seqloss.testing.explain.inputs import Situation

Step = Callable[[float, Situation], float]


def factor(of: Callable[[Situation], float]) -> Step:
    def step(value: float, known: Situation) -> float:
        return value * of(known)

    return step


as_it_is = factor(lambda _: 1.0)
in_bits = factor(lambda _: 1 / math.log(2))
in_decimal_digits = factor(lambda _: 1 / math.log(10))


def power(base: float) -> Step:
    def step(value: float, _: Situation) -> float:
        with np.errstate(all="ignore"):
            return float(np.exp(value * math.log(base)))

    return step


LOGARITHM = Axis(
    "logarithm",
    (
        documented(as_it_is),
        Choice("base-2 logarithms", "is in bits", "multiply by ln 2", in_bits, scales=True, same="divide by ln 2"),
        Choice(
            "base-10 logarithms",
            "is in decimal digits, log10, as the scores of KenLM are",
            "multiply by ln 10",
            in_decimal_digits,
            scales=True,
            weight=SELDOM,
            same="divide by ln 10",
        ),
    ),
)


def _scaled(name: str, count: Callable[[Situation], int], needs: Needs, why: str) -> Axis:
    return Axis(
        name,
        (
            documented(as_it_is),
            Choice(
                f"times {name}",
                f"is multiplied by {name}",
                f"divide by {name}: {why}",
                factor(lambda known: float(count(known))),
                needs,
                scales=True,
                same=f"multiply by {name}",
            ),
            Choice(
                f"divided by {name}",
                f"is divided by {name}",
                f"multiply by {name}: {why}",
                factor(lambda known: 1.0 / count(known)),
                needs,
                scales=True,
                same=f"divide by {name}",
            ),
        ),
    )


WORLD = _scaled(
    "world_size",
    lambda known: known.world_size or 1,
    several_ranks,
    "reduce over ranks by a sum or by a mean, but on both sides alike",
)
STEPS = _scaled(
    "accumulation_steps",
    lambda known: known.accumulation_steps or 1,
    several_steps,
    "normalise once for all accumulation steps",
)

SIGN = Axis(
    "sign",
    (
        documented(as_it_is),
        Choice(
            "sign",
            "is the log-likelihood, -loss, as log_prob of distributions is: larger is better",
            "multiply by -1",
            factor(lambda _: -1.0),
            scales=True,
            same="multiply by -1",
        ),
    ),
)

POWER = Axis(
    "power",
    (
        documented(as_it_is),
        Choice(
            "perplexity",
            "is exp(loss), as torcheval and KerasHub define it; for a loss in bits that is 2 ** loss, as in fairseq",
            "take its logarithm, or compare the losses themselves",
            power(math.e),
            not_with=(in_decimal_digits,),
            same="take exp of the loss",
        ),
        Choice(
            "perplexity",
            "is 2 ** loss of a loss in nats, but that formula is for bits",
            "take exp(loss) of nats, or 2 ** loss of bits",
            power(2.0),
            usual=False,
            same="take 2 ** loss",
        ),
    ),
)
