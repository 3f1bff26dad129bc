"""Every public function in every backend, mode and dtype: the table, and what each row must return.

The expected values and gradients are computed from the formulas in wide floats (``reference``, ``sampled``), on the
arrays as the framework holds them. A row is a :class:`~seqloss.testing.families.family.Family`.
"""

from seqloss.testing.families import candidates, linear, lists, weighted, with_logits
from seqloss.testing.families.family import Family

FAMILIES: tuple[Family, ...] = (*with_logits.ROWS, *weighted.ROWS, *lists.ROWS, *linear.ROWS, *candidates.ROWS)

ELSEWHERE = {
    "sequence_loss": "has a table of cases of its own, seqloss.testing.cases",
    "sequence_loss_and_grad": "is in that table too",
    "token_loss": "has a test of its own in every mode, with and without a mask",
    "linear_sequence_loss_and_grad": "has a test of its own, with two options of linear_sequence_loss at a time",
    "linear_loss_sum": "has tests of its own, because it returns no array",
    "loss_sum": "has tests of its own, because it returns no array",
    "register_backend": "has no arrays",
    "samplers.LearnedUnigram": "is the state of learned_unigram_candidate_sampler",
}
"""The public names that are in no row."""
