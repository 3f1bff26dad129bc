"""What is done to logits before the softmax, and the statistics of a token that it changes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqloss.testing.oracle import WIDE

Array = Any

SOFTCAPS = (30.0, 50.0)
"""Those of Gemma 2, which caps logits at 30 and the scores of its attention at 50."""

TEMPERATURES = (0.5, 0.7, 0.8, 2.0, 4.0)
"""Those of sampling, whose log probabilities are scored again, and those of distillation."""


class Scaling(NamedTuple):
    """A function of each logit that leaves their order alone."""

    by: float
    function: Callable[[Array], Array]


Scalings = tuple[Scaling | None, ...]
"""First the caps, then the temperatures; None where one is not tried."""


def scalings(softcap: float | None, temperature: float | None) -> Scalings:
    """Those of a caller who has named one take the place of the usual ones."""
    return (*map(_cap, _places(softcap, SOFTCAPS)), *map(_temperature, _places(temperature, TEMPERATURES)))


def _places(named: float | None, usual: tuple[float, ...]) -> tuple[float | None, ...]:
    return usual if named is None else (named, *(None for _ in usual[1:]))


def _cap(by: float | None) -> Scaling | None:
    # -infinity stays, since impossible classes are masked behind the cap.
    return None if by is None else Scaling(by, lambda x: np.where(np.isneginf(x), x, by * np.tanh(x / by)))


def _temperature(by: float | None) -> Scaling | None:
    return None if by is None else Scaling(by, lambda x: x / by)


def statistics(logits: Array, tried: Scalings) -> Array:
    """For rows of logits the log-sum-exp and the sum of the losses of all classes: [rows, scalings, 2].

    float64 will do, because all is taken relative to the largest logit: what is wide is the sum with that one.
    """
    logits = logits.astype(np.float64)
    found = np.full((len(logits), len(tried), 2), np.nan, WIDE)
    with np.errstate(all="ignore"):
        for i, scaling in enumerate(tried):
            if scaling is None:
                continue
            x = scaling.function(logits)
            highest = x.max(-1, keepdims=True)
            below = x - highest
            log_sum = np.log(np.exp(below).sum(-1)).astype(WIDE)
            found[:, i, 0] = highest[:, 0] + log_sum
            found[:, i, 1] = logits.shape[-1] * log_sum - below.sum(-1)
    return found
