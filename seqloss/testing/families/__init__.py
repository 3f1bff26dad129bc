"""Every public function in every backend, mode and dtype: the table, and what each row must return.

The expected values and gradients are computed from the formulas in wide floats (``reference``, ``sampled``), on the
arrays as the framework holds them. A row is a :class:`~seqloss.testing.families.family.Family`.
"""

from collections.abc import Iterator
from typing import Any

from seqloss.testing.families import candidates, lists, weighted, with_logits
from seqloss.testing.families.family import Family

FAMILIES: tuple[Family, ...] = (*with_logits.ROWS, *weighted.ROWS, *lists.ROWS, *candidates.ROWS)

ELSEWHERE = {
    "sequence_loss": "has a table of cases of its own, seqloss.testing.cases",
    "sequence_loss_and_grad": "is in that table too",
    "token_loss": "has a test of its own in every mode, with and without a mask",
    "register_backend": "has no arrays",
    "samplers.LearnedUnigram": "is the state of learned_unigram_candidate_sampler",
}
"""The public names that are in no row."""


def dtypes(driver: Any, mode: str, family: Family) -> tuple[str, ...]:
    """The float dtypes of a row: all eagerly, one of half precision where each case is compiled for itself."""
    if mode in family.refusals or not family.wrt:
        return ("float32",)
    if mode == "eager":
        return tuple(driver.DTYPES)
    return tuple(driver.FEWER_DTYPES.get(mode, ("float32", "float64", "bfloat16")))


def declared(driver: Any) -> Iterator[tuple[str, str, Family]]:
    """Every (mode, dtype, family) that has to pass in a framework."""
    for mode in driver.MODES:
        for family in FAMILIES:
            for dtype in dtypes(driver, mode, family):
                yield mode, dtype, family
