"""The backend of the framework ``boxed``: everything that seqloss asks of it."""

from contextlib import nullcontext

import numpy as np
from boxed import Box

from seqloss.backends import numpy as on_numpy
from seqloss.core.protocol import LabelStatistics, TokenStatistics


def _held(x):
    return x.held if isinstance(x, Box) else x


def _boxed(results):
    return tuple(None if x is None else Box(x) for x in results)


# --- facts -----------------------------------------------------------------------------------------------------------


def owns(x):
    return isinstance(x, Box)


def dense_form(x):
    return None  # every box is dense


def shape(x):
    return x.held.shape


def dtype(x):
    return x.held.dtype.name


def device(x):
    return None  # there is only one


def readable(x, *, sync=False):
    return True


def needs_grad(x):
    return False  # boxes cannot be differentiated


# --- into and out of the framework -----------------------------------------------------------------------------------


def asarray(x, *, like=None):
    return x if isinstance(x, Box) else Box(x)


def to_numpy(x):
    return x.held


# --- primitives ------------------------------------------------------------------------------------------------------


def sizes(x):
    return x.held.shape


def astype(x, dtype):
    return Box(x.held.astype(dtype, copy=False))


def arange(stop, *, like):
    return Box(np.arange(stop))


def ones_like(x, *, dtype):
    return Box(np.ones_like(x.held, dtype=dtype))


def reshape(x, shape):
    return Box(x.held.reshape(shape))


def expand_dims(x, *, axis):
    return Box(np.expand_dims(x.held, axis))


def where(condition, x1, x2):
    return Box(np.where(condition.held, _held(x1), _held(x2)))


def nan_unless(condition, x):
    return Box(on_numpy.nan_unless(condition.held, x.held))


def equal(x1, x2):
    return Box(np.equal(_held(x1), _held(x2)))


def isfinite(x):
    return Box(np.isfinite(x.held))


def sum(x, *, axis):
    return Box(x.held.sum(axis))


def residual(x, weights, center, counts, *, axis):
    return Box(on_numpy.residual(x.held, weights.held, center.held, counts.held, axis=axis))


def count_nonzero(x, *, axis):
    return Box(np.count_nonzero(x.held, axis))


def all(x, *, axis):
    return Box(x.held.all(axis))


def stop_gradient(x):
    return x


def permute_dims(x, axes):
    return Box(x.held.transpose(axes))


def concat(arrays, *, axis):
    return Box(np.concatenate([x.held for x in arrays], axis))


def log(x):
    return Box(np.log(x.held))


def take(x, indices):
    return Box(x.held[indices.held])


# --- what only the framework can do ----------------------------------------------------------------------------------


def scope(name):
    return on_numpy.scope(name)  # no profiler, and no warnings about NaN


def with_rank(x, rank):
    return x  # ranks are always known


def sizes_agree(arrays, message):
    return Box(True), arrays  # sizes are always known, so this is never called


def broadcast_like(x, like, message):
    return None, Box(np.broadcast_to(x.held, like.held.shape))  # None: sizes are always known


def vjp(function, x):
    return None  # no automatic differentiation


def fuse(rule, arrays):
    return rule.plain(*arrays)  # nothing to gain


# --- float64, and the memory of the host ------------------------------------------------------------------------------


def float64():
    return nullcontext()  # float64 arrays are always legal


def in_float64(rule, arrays):
    return rule.forward(*arrays)[0]


def on_host(arrays):
    return False  # True would let NumPy compute in place of this backend


def to_host(x):
    return x.held


def from_host(x, dtype, like):
    return Box(x)


def threads():
    return None


# --- kernels ---------------------------------------------------------------------------------------------------------


def token_nll(logits, targets, active, dtype):
    return TokenStatistics(*map(Box, on_numpy.token_nll(logits.held, targets.held, _held(active), dtype)))


def token_nll_pullback(cotangent, logits, targets, active, statistics):
    held = TokenStatistics(*map(_held, statistics))
    return Box(on_numpy.token_nll_pullback(cotangent.held, logits.held, targets.held, _held(active), held))


def indices(logits, targets):
    return _boxed(on_numpy.indices(logits.held, targets.held))


def differentiable_token_nll(logits, targets, active):
    dtype = "float64" if logits.held.dtype == "float64" else "float32"
    return token_nll(logits, targets, active, dtype).nll


def softmax_nll(logits, labels):
    return LabelStatistics(*map(Box, on_numpy.softmax_nll(logits.held, labels.held)))


def softmax_nll_pullback(cotangent, logits, labels, mass, statistics, wrt_labels):
    held = LabelStatistics(*map(_held, statistics))
    arrays = map(_held, (cotangent, logits, labels, mass))
    return _boxed(on_numpy.softmax_nll_pullback(*arrays, held, wrt_labels))


def differentiable_softmax_nll(logits, labels, mass):
    return softmax_nll(logits, labels).nll


def sigmoid_nll(logits, labels, pos_weight):
    return Box(on_numpy.sigmoid_nll(logits.held, labels.held, _held(pos_weight)))


def sigmoid_nll_pullback(cotangent, logits, labels, pos_weight, wrt_labels):
    arrays = map(_held, (cotangent, logits, labels, pos_weight))
    return _boxed(on_numpy.sigmoid_nll_pullback(*arrays, wrt_labels))


def differentiable_sigmoid_nll(logits, labels, pos_weight):
    return sigmoid_nll(logits, labels, pos_weight)
