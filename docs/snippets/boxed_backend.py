"""The backend of the framework ``boxed``: everything that seqloss asks of it."""

import numpy as np
from boxed import Box

from seqloss.backends import numpy as on_numpy
from seqloss.core.protocol import TokenStatistics


def _held(x):
    return x.held if isinstance(x, Box) else x


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


def isfinite(x):
    return Box(np.isfinite(x.held))


def sum(x, *, axis):
    return Box(x.held.sum(axis))


def count_nonzero(x, *, axis):
    return Box(np.count_nonzero(x.held, axis))


def all(x, *, axis):
    return Box(x.held.all(axis))


def stop_gradient(x):
    return x


# --- what only the framework can do ----------------------------------------------------------------------------------


def scope(name):
    return on_numpy.scope(name)  # no profiler, and no warnings about NaN


def with_rank(x, rank):
    return x  # ranks are always known


def sizes_agree(arrays, message):
    return Box(True), arrays  # sizes are always known, so this is never called


def vjp(function, x):
    return None  # no automatic differentiation


def fuse(plain, forward, pullback, arrays):
    return plain(*arrays)  # nothing to gain


# --- kernels ---------------------------------------------------------------------------------------------------------


def token_nll(logits, targets, active):
    return TokenStatistics(*map(Box, on_numpy.token_nll(logits.held, targets.held, _held(active))))


def token_nll_pullback(cotangent, logits, targets, active, statistics):
    held = TokenStatistics(*map(_held, statistics))
    return Box(on_numpy.token_nll_pullback(cotangent.held, logits.held, targets.held, _held(active), held))


def differentiable_token_nll(logits, targets, active):
    return token_nll(logits, targets, active).nll
