"""The families of legacy_seq2seq: lists with one array for each timestep, passed here one after the other."""

from typing import Any

import numpy as np

import seqloss
from seqloss import legacy
from seqloss.testing.families.family import Family
from seqloss.testing.families.reference import Expected, averaged, sparse

Array = Any
TIME = 3
LOGITS, WEIGHTS = tuple(range(TIME)), tuple(range(2 * TIME, 3 * TIME))
ARGUMENTS = tuple(name for name in ("logits", "targets", "weights") for _ in range(TIME))


def _steps(rng: np.random.Generator) -> list[Array]:
    """Sequences of the lengths 3, 1, 2 and 0, padded with NaN logits and label -100."""
    logits, targets = rng.normal(0, 2, (TIME, 4, 5)), rng.integers(0, 5, (TIME, 4))
    weights = rng.integers(1, 9, (TIME, 4)) / 4
    padding = np.arange(TIME)[:, None] >= np.array([3, 1, 2, 0])
    logits[padding], targets[padding], weights[padding] = np.nan, -100, 0
    return [*logits, *targets, *weights]


def _grouped(arrays: tuple[Array, ...]) -> tuple[list[Array], list[Array], list[Array]]:
    time = len(arrays) // 3
    return list(arrays[:time]), list(arrays[time : 2 * time]), list(arrays[2 * time :])


def _expected(over_time: bool, over_batch: bool | None) -> Any:
    def expected(*arrays: Array, cotangent: Array | None = None) -> Expected:
        logits, targets, weights = map(np.stack, _grouped(arrays))
        got = averaged(sparse(logits, targets), weights, over_time, over_batch, cotangent)
        gradients, scales = ((*pair[0], *pair[1]) for pair in (got.gradients, got.scales))
        return got._replace(gradients=gradients, scales=scales)

    return expected


ROWS = (
    *(
        Family(
            f"sequence_loss_by_example-{name}",
            "sequence_loss_by_example",
            ARGUMENTS,
            _steps,
            lambda *arrays, mean=mean: seqloss.sequence_loss_by_example(*_grouped(arrays), mean),
            _expected(mean, None),
            LOGITS + WEIGHTS,
        )
        for name, mean in (("mean", True), ("sum", False))
    ),
    *(
        Family(
            f"legacy_sequence_loss-{name}",
            "legacy.sequence_loss",
            ARGUMENTS,
            _steps,
            lambda *arrays, time=time, batch=batch: legacy.sequence_loss(*_grouped(arrays), time, batch),
            _expected(time, batch),
            LOGITS + WEIGHTS,
        )
        for name, time, batch in (("mean", True, True), ("sum", False, False))
    ),
)
"""Both functions, averaging and not."""
