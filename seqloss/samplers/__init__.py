"""Candidate samplers: which classes a sampled loss uses, and how often each was expected.

The samplers run on the host, with NumPy's generators, and return their results in the framework of the true classes.
TensorFlow's private stream of random numbers is not reproduced: a seed gives other ids than there, with the same
distribution and the same expected counts.
"""

from seqloss.samplers.candidates import (
    SampledValues,
    all_candidate_sampler,
    log_uniform_candidate_sampler,
    uniform_candidate_sampler,
)
from seqloss.samplers.hits import compute_accidental_hits
from seqloss.samplers.unigrams import (
    LearnedUnigram,
    fixed_unigram_candidate_sampler,
    learned_unigram_candidate_sampler,
)

__all__ = [
    "LearnedUnigram",
    "SampledValues",
    "all_candidate_sampler",
    "compute_accidental_hits",
    "fixed_unigram_candidate_sampler",
    "learned_unigram_candidate_sampler",
    "log_uniform_candidate_sampler",
    "uniform_candidate_sampler",
]
