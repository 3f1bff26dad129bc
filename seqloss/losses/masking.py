"""Weights of tokens, made of the mask and the sample weights of Keras."""

import sys
from typing import Any

from seqloss.core import dtypes, open_sizes, shapes
from seqloss.core.argument import Argument
from seqloss.core.call import Call
from seqloss.core.protocol import Array


def keras_mask(y_pred: Array) -> Array | None:
    """The mask [batch, time] that Keras attached to the logits."""
    # Not every tensor can hold an attribute: for those Keras 3 keeps the mask elsewhere.
    find = getattr(sys.modules.get("keras.src.backend"), "get_keras_mask", None)
    return getattr(y_pred, "_keras_mask", None) if find is None else find(y_pred)


def token_weights(logits: Array, weights: Any, mask: Array | None) -> Any:
    """The weights [batch, time] of sample weights [batch] or [batch, time] and a mask; None if there is neither."""
    if weights is not None:
        call = Call("y_pred", logits)
        shapes.sequence_logits(call.main.shape)
        given = call.beside("sample_weight", weights)
        if given.shape is not None and len(given.shape) != 2:
            weights = _spread(call, given)
    if mask is None or weights is None:
        return mask if weights is None else weights
    return masked(logits, weights, mask)


def _spread(call: Call, given: Argument) -> Array:
    """A weight for each sequence as one for each of its tokens."""
    shapes.sample_weight(given.shape, call.main.shape)
    backend, logits = call.backend, call.main.value
    weights = backend.expand_dims(call.place(given, _dtype(call, given)), axis=-1)
    logits = backend.with_rank(logits, 3) if call.main.shape is None else logits
    everywhere = backend.arange(backend.sizes(logits)[1], like=logits) >= 0
    return backend.where(backend.expand_dims(everywhere, axis=0), weights, 0.0)


def masked(logits: Array, weights: Array, mask: Array) -> Array:
    """The weights, and 0 where the mask is False, whatever the weight is there."""
    call = Call("y_pred", logits)
    kept, given = call.beside("mask", mask), call.beside("sample_weight", weights)
    for argument in (given, kept):
        shapes.sequence_weights(argument.shape, call.main.shape, argument.dtype)
    arrays = call.place(kept, "bool", rank=2), call.place(given, _dtype(call, given), rank=2)
    keep, values = call.compare_same(*arrays, open_sizes.SIZES_DIFFER)
    return call.guard(call.backend.where(keep, values, 0.0))


def _dtype(call: Call, weights: Argument) -> str:
    dtypes.weights_dtype(weights.dtype, "sample_weight")
    return weights.dtype if weights.dtype in dtypes.FLOATS else dtypes.compute_dtype(call.main.dtype)
