"""``tf.nn`` of TensorFlow 1.15: cross entropies, sampled losses and candidate samplers."""

from collections.abc import Callable
from numbers import Integral
from typing import Any, ParamSpec

import seqloss
from seqloss import samplers
from seqloss.compat import derived, results
from seqloss.core import dispatch, options
from seqloss.core.call import Call
from seqloss.core.errors import ArgumentTypeError, OptionError
from seqloss.core.protocol import Array
from seqloss.core.types import ArrayLike, Partition
from seqloss.losses import cross_entropies
from seqloss.samplers import SampledValues, compute_accidental_hits

__all__ = [
    "all_candidate_sampler",
    "compute_accidental_hits",
    "fixed_unigram_candidate_sampler",
    "learned_unigram_candidate_sampler",
    "log_uniform_candidate_sampler",
    "nce_loss",
    "sampled_softmax_loss",
    "sigmoid_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits_v2",
    "sparse_softmax_cross_entropy_with_logits",
    "uniform_candidate_sampler",
    "weighted_cross_entropy_with_logits",
]

P = ParamSpec("P")


@derived.documented_by(seqloss.sparse_softmax_cross_entropy_with_logits)
def sparse_softmax_cross_entropy_with_logits(
    _sentinel: None = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Array:
    """As :func:`seqloss.sparse_softmax_cross_entropy_with_logits`, with the result in the dtype of logits.

    Parameters
    ----------
    _sentinel : None
        Keeps labels and logits from being passed by position.
    """
    _by_keyword("sparse_softmax_cross_entropy_with_logits", _sentinel)
    return results.like("logits", logits, seqloss.sparse_softmax_cross_entropy_with_logits(labels, logits, name))


@derived.documented_by(seqloss.softmax_cross_entropy_with_logits)
def softmax_cross_entropy_with_logits(
    _sentinel: None = None,
    labels: Array | None = None,
    logits: Array | None = None,
    dim: int = -1,
    name: str | None = None,
    axis: int | None = None,
) -> Array:
    """As :func:`softmax_cross_entropy_with_logits_v2`, without a gradient to labels.

    Parameters
    ----------
    _sentinel : None
        Keeps labels and logits from being passed by position.
    axis : int, optional
        As in :func:`softmax_cross_entropy_with_logits_v2`.
    dim : int, default -1
        Another name of axis.

    Notes
    -----
    The gradient with respect to a row of logits is ``softmax(logits) - labels``, whatever the labels add up to.
    """
    _by_keyword("softmax_cross_entropy_with_logits", _sentinel)
    return _soft(labels, logits, _axis(axis, None if _is_default(dim) else dim), name, stop_labels=True)


@derived.documented_by(seqloss.softmax_cross_entropy_with_logits)
def softmax_cross_entropy_with_logits_v2(
    labels: Array, logits: Array, axis: int | None = None, name: str | None = None, dim: int | None = None
) -> Array:
    """As :func:`seqloss.softmax_cross_entropy_with_logits`, with TensorFlow's gradient and result dtype.

    Parameters
    ----------
    axis : int, optional
        The axis of the classes, the last one unless given; negative ones count from the end.
    dim : int, optional
        Another name of axis.

    Notes
    -----
    The gradient with respect to a row of logits is ``softmax(logits) - labels``, whatever the labels add up to. It is
    the derivative of the loss only where they add up to 1.
    """
    return _soft(labels, logits, _axis(axis, dim), name, stop_labels=False)


def _soft(labels: Any, logits: Any, axis: int, name: str | None, *, stop_labels: bool) -> Array:
    options.scope_name("name", name)
    options.class_axis(axis)
    call = Call("logits", logits)
    labels = call.beside("labels", labels)
    with call.backend.scope(name):
        losses = cross_entropies.soft(call, labels, axis, tf_gradient=True, stop_labels=stop_labels)
        return cross_entropies.in_dtype_of_logits(call, call.guard(losses))


@derived.documented_by(seqloss.sigmoid_cross_entropy_with_logits)
def sigmoid_cross_entropy_with_logits(
    _sentinel: None = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Array:
    """As :func:`seqloss.sigmoid_cross_entropy_with_logits`, with the result in the dtype of logits.

    Parameters
    ----------
    _sentinel : None
        Keeps labels and logits from being passed by position.
    """
    _by_keyword("sigmoid_cross_entropy_with_logits", _sentinel)
    return results.like("logits", logits, seqloss.sigmoid_cross_entropy_with_logits(labels, logits, name))


@derived.documented_by(seqloss.weighted_cross_entropy_with_logits)
def weighted_cross_entropy_with_logits(
    labels: Any = None,
    logits: Any = None,
    pos_weight: ArrayLike | None = None,
    name: str | None = None,
    targets: Array | None = None,
) -> Array:
    """As :func:`seqloss.weighted_cross_entropy_with_logits`, with the result in the dtype of logits.

    Parameters
    ----------
    targets : array, optional
        Another name of labels.
    """
    if labels is not None and targets is not None:
        raise OptionError("labels and targets are two names of one argument; pass only labels")
    if pos_weight is None:
        raise ArgumentTypeError("pos_weight is None; pass the weight of the positive labels, as in pos_weight=1.0")
    labels = targets if labels is None else labels
    result = seqloss.weighted_cross_entropy_with_logits(labels, logits, pos_weight, name)
    return results.like("logits", logits, result)


def _by_keyword(function: str, sentinel: Any) -> None:
    if sentinel is not None:
        raise OptionError(f"{function} takes labels and logits by keyword only; call it as (labels=..., logits=...)")


def _is_default(dim: Any) -> bool:
    # Anything else is left to the check of the axis: an array has no single answer to ==.
    return isinstance(dim, (int, Integral)) and dim == -1


def _axis(axis: int | None, dim: int | None) -> int:
    if axis is not None and dim is not None:
        raise OptionError("axis and dim are two names of one argument; pass only axis")
    if axis is not None:
        return axis
    return -1 if dim is None else dim


@derived.documented_by(seqloss.sampled_softmax_loss)
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
    partition_strategy: Partition = "mod",
    name: str = "sampled_softmax_loss",
    seed: Any = None,
) -> Array:
    """As :func:`seqloss.sampled_softmax_loss`, with the result in the dtype of inputs.

    Parameters
    ----------
    name : str, default "sampled_softmax_loss"
        As in :func:`seqloss.sampled_softmax_loss`.
    """
    given = weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values
    result = seqloss.sampled_softmax_loss(*given, remove_accidental_hits, partition_strategy, name, seed)
    return results.like("inputs", inputs, result)


@derived.documented_by(seqloss.nce_loss)
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
    partition_strategy: Partition = "mod",
    name: str = "nce_loss",
) -> Array:
    """As :func:`seqloss.nce_loss`, with the result in the dtype of inputs.

    Parameters
    ----------
    name : str, default "nce_loss"
        As in :func:`seqloss.nce_loss`.
    """
    given = weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values
    result = seqloss.nce_loss(*given, remove_accidental_hits, partition_strategy, name)
    return results.like("inputs", inputs, result)


def _with_float32_counts(sampler: Callable[P, SampledValues]) -> Callable[P, SampledValues]:
    @derived.stand_in(sampler, __name__, _FLOAT32_COUNTS)
    def function(*args: P.args, **kwargs: P.kwargs) -> SampledValues:
        sampled, *counts = sampler(*args, **kwargs)
        facts = dispatch.argument("sampled", sampled).facts
        return SampledValues(sampled, *(facts.astype(count, "float32") for count in counts))

    return function


_FLOAT32_COUNTS = """with expected counts in float32.

Returns
-------
SampledValues
    ``sampled`` int64 [num_sampled], ``true_expected`` float32 [batch, num_true] and ``sampled_expected`` float32
    [num_sampled] in the framework of true_classes. JAX without x64 narrows the ids to 32 bits.
"""

all_candidate_sampler = _with_float32_counts(samplers.all_candidate_sampler)
fixed_unigram_candidate_sampler = _with_float32_counts(samplers.fixed_unigram_candidate_sampler)
learned_unigram_candidate_sampler = _with_float32_counts(samplers.learned_unigram_candidate_sampler)
log_uniform_candidate_sampler = _with_float32_counts(samplers.log_uniform_candidate_sampler)
uniform_candidate_sampler = _with_float32_counts(samplers.uniform_candidate_sampler)
