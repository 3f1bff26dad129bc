"""The part of ``tf.nn`` that looks at a sample of the classes.

The candidate samplers are those of ``seqloss.samplers``, with expected counts in float32.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from seqloss import samplers, sampling
from seqloss.compat import results
from seqloss.core import dispatch
from seqloss.core.protocol import Array
from seqloss.samplers import SampledValues, compute_accidental_hits

__all__ = [
    "all_candidate_sampler",
    "compute_accidental_hits",
    "fixed_unigram_candidate_sampler",
    "learned_unigram_candidate_sampler",
    "log_uniform_candidate_sampler",
    "nce_loss",
    "sampled_softmax_loss",
    "uniform_candidate_sampler",
]

P = ParamSpec("P")


def _with_float32_counts(sampler: Callable[P, SampledValues]) -> Callable[P, SampledValues]:
    @functools.wraps(sampler)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> SampledValues:
        sampled, *counts = sampler(*args, **kwargs)
        facts = dispatch.argument("sampled", sampled).facts
        return SampledValues(sampled, *(facts.astype(count, "float32") for count in counts))

    return wrapped


all_candidate_sampler = _with_float32_counts(samplers.all_candidate_sampler)
fixed_unigram_candidate_sampler = _with_float32_counts(samplers.fixed_unigram_candidate_sampler)
learned_unigram_candidate_sampler = _with_float32_counts(samplers.learned_unigram_candidate_sampler)
log_uniform_candidate_sampler = _with_float32_counts(samplers.log_uniform_candidate_sampler)
uniform_candidate_sampler = _with_float32_counts(samplers.uniform_candidate_sampler)


def sampled_softmax_loss(
    weights: Array | list[Array] | tuple[Array, ...],
    biases: Array | list[Array] | tuple[Array, ...],
    labels: Array,
    inputs: Array,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: tuple[Array, Array, Array] | None = None,
    remove_accidental_hits: bool = True,
    partition_strategy: str = "mod",
    name: str = "sampled_softmax_loss",
    seed: Any = None,
) -> Array:
    """:func:`seqloss.sampled_softmax_loss` with the result in the dtype of the inputs.

    Parameters
    ----------
    weights : array of shape [num_classes, dim], or a list of shards of it
        As there.
    biases : array of shape [num_classes], or a list of shards of it
        As there.
    labels : array of shape [batch, num_true]
        As there.
    inputs : array of shape [batch, dim]
        As there.
    num_sampled : int
        As there.
    num_classes : int
        As there.
    num_true : int, default 1
        As there.
    sampled_values : tuple of three arrays, optional
        As there.
    remove_accidental_hits : bool, default True
        As there.
    partition_strategy : str, default "mod"
        As there.
    name : str, default "sampled_softmax_loss"
        As there.
    seed : int or numpy.random.Generator, optional
        As there.

    Returns
    -------
    array of shape [batch]
        The losses, in nats.
    """
    result = sampling.sampled_softmax_loss(
        weights,
        biases,
        labels,
        inputs,
        num_sampled,
        num_classes,
        num_true,
        sampled_values,
        remove_accidental_hits,
        partition_strategy,
        name,
        seed,
    )
    return results.like("inputs", inputs, result)


def nce_loss(
    weights: Array | list[Array] | tuple[Array, ...],
    biases: Array | list[Array] | tuple[Array, ...],
    labels: Array,
    inputs: Array,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: tuple[Array, Array, Array] | None = None,
    remove_accidental_hits: bool = False,
    partition_strategy: str = "mod",
    name: str = "nce_loss",
) -> Array:
    """:func:`seqloss.nce_loss` with the result in the dtype of the inputs.

    Parameters
    ----------
    weights : array of shape [num_classes, dim], or a list of shards of it
        As there.
    biases : array of shape [num_classes], or a list of shards of it
        As there.
    labels : array of shape [batch, num_true]
        As there.
    inputs : array of shape [batch, dim]
        As there.
    num_sampled : int
        As there.
    num_classes : int
        As there.
    num_true : int, default 1
        As there.
    sampled_values : tuple of three arrays, optional
        As there.
    remove_accidental_hits : bool, default False
        As there.
    partition_strategy : str, default "mod"
        As there.
    name : str, default "nce_loss"
        As there.

    Returns
    -------
    array of shape [batch]
        The losses, in nats.
    """
    result = sampling.nce_loss(
        weights,
        biases,
        labels,
        inputs,
        num_sampled,
        num_classes,
        num_true,
        sampled_values,
        remove_accidental_hits,
        partition_strategy,
        name,
    )
    return results.like("inputs", inputs, result)
