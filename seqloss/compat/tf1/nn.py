"""``tf.nn`` of TensorFlow 1.15: cross entropies, sampled losses and candidate samplers."""

from numbers import Integral
from typing import Any

import seqloss
from seqloss.compat import results
from seqloss.compat.tf1.sampled import (
    all_candidate_sampler,
    compute_accidental_hits,
    fixed_unigram_candidate_sampler,
    learned_unigram_candidate_sampler,
    log_uniform_candidate_sampler,
    nce_loss,
    sampled_softmax_loss,
    uniform_candidate_sampler,
)
from seqloss.core import entropies, options
from seqloss.core.call import Call
from seqloss.core.errors import ArgumentTypeError, OptionError
from seqloss.core.protocol import Array

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


def sparse_softmax_cross_entropy_with_logits(
    _sentinel: None = None, labels: Array | None = None, logits: Array | None = None, name: str | None = None
) -> Array:
    """:func:`seqloss.sparse_softmax_cross_entropy_with_logits` with the result in the dtype of the logits.

    Parameters
    ----------
    _sentinel : None
        Keeps labels and logits from being passed by position.
    labels : array
        As there, by keyword.
    logits : array of shape [..., classes]
        As there, by keyword.
    name : str, optional
        As there.

    Returns
    -------
    array
        The losses, in nats.
    """
    _by_keyword("sparse_softmax_cross_entropy_with_logits", _sentinel)
    return results.like("logits", logits, seqloss.sparse_softmax_cross_entropy_with_logits(labels, logits, name))


def softmax_cross_entropy_with_logits(
    _sentinel: None = None,
    labels: Array | None = None,
    logits: Array | None = None,
    dim: int = -1,
    name: str | None = None,
    axis: int | None = None,
) -> Array:
    """:func:`softmax_cross_entropy_with_logits_v2` without a gradient to labels.

    Parameters
    ----------
    _sentinel : None
        Keeps labels and logits from being passed by position.
    labels : array
        As there, by keyword.
    logits : array of shape [..., classes]
        As there, by keyword.
    dim : int, default -1
        Another name of axis.
    name : str, optional
        As there.
    axis : int, optional
        The axis of the classes.

    Returns
    -------
    array
        The losses, in nats.
    """
    _by_keyword("softmax_cross_entropy_with_logits", _sentinel)
    return _soft(labels, logits, _axis(axis, None if _is_default(dim) else dim), name, stop_labels=True)


def softmax_cross_entropy_with_logits_v2(
    labels: Array, logits: Array, axis: int | None = None, name: str | None = None, dim: int | None = None
) -> Array:
    """:func:`seqloss.softmax_cross_entropy_with_logits` with TensorFlow's gradient and result dtype.

    Parameters
    ----------
    labels : array
        As there.
    logits : array of shape [..., classes]
        As there.
    axis : int, optional
        As there.
    name : str, optional
        As there.
    dim : int, optional
        Another name of axis.

    Returns
    -------
    array
        The losses, in nats, in the dtype of the logits.

    Notes
    -----
    The gradient to a row of logits is ``softmax(logits) - labels``, whatever the labels add up to. It is the derivative
    of the loss only where they add up to 1.
    """
    return _soft(labels, logits, _axis(axis, dim), name, stop_labels=False)


def _soft(labels: Any, logits: Any, axis: int, name: str | None, *, stop_labels: bool) -> Array:
    options.scope_name("name", name)
    options.class_axis(axis)
    call = Call("logits", logits)
    given = call.beside("labels", labels)
    with call.backend.scope(name):
        losses = entropies.soft(call, given, axis, tf_gradient=True, stop_labels=stop_labels)
        return entropies.in_dtype_of_logits(call, call.guard(losses))


def sigmoid_cross_entropy_with_logits(
    _sentinel: None = None, labels: Array | None = None, logits: Array | None = None, name: str | None = None
) -> Array:
    """:func:`seqloss.sigmoid_cross_entropy_with_logits` with the result in the dtype of the logits.

    Parameters
    ----------
    _sentinel : None
        Keeps labels and logits from being passed by position.
    labels : array
        As there, by keyword.
    logits : array of shape [..., classes]
        As there, by keyword.
    name : str, optional
        As there.

    Returns
    -------
    array
        The losses, in nats.
    """
    _by_keyword("sigmoid_cross_entropy_with_logits", _sentinel)
    return results.like("logits", logits, seqloss.sigmoid_cross_entropy_with_logits(labels, logits, name))


def weighted_cross_entropy_with_logits(
    labels: Array | None = None,
    logits: Array | None = None,
    pos_weight: Array | float | None = None,
    name: str | None = None,
    targets: Array | None = None,
) -> Array:
    """:func:`seqloss.weighted_cross_entropy_with_logits` with the result in the dtype of the logits.

    Parameters
    ----------
    labels : array
        As there.
    logits : array of shape [..., classes]
        As there.
    pos_weight : array or float
        As there, but required.
    name : str, optional
        As there.
    targets : array, optional
        Another name of labels.

    Returns
    -------
    array
        The losses, in nats.
    """
    if labels is not None and targets is not None:
        raise OptionError("labels and targets are two names of one argument; pass labels alone")
    if pos_weight is None:
        raise ArgumentTypeError("pos_weight is None; pass the weight of the positive labels, as in pos_weight=1.0")
    labels = targets if labels is None else labels
    result = seqloss.weighted_cross_entropy_with_logits(labels, logits, pos_weight, name)
    return results.like("logits", logits, result)


def _by_keyword(function: str, sentinel: Any) -> None:
    if sentinel is not None:
        raise OptionError(f"{function} takes labels and logits by keyword alone; call it as (labels=..., logits=...)")


def _is_default(dim: Any) -> bool:
    # Anything else is left to the check of the axis: an array has no single answer to ==.
    return isinstance(dim, (int, Integral)) and dim == -1


def _axis(axis: int | None, dim: int | None) -> int:
    if axis is not None and dim is not None:
        raise OptionError("axis and dim are two names of one argument; pass axis alone")
    if axis is not None:
        return axis
    return -1 if dim is None else dim
