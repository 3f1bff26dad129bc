"""The backend of the framework ``boxed``: what seqloss cannot know about its arrays."""

import numpy as np
from boxed import Box

from seqloss.backends import base
from seqloss.backends import numpy as on_numpy


def _held(x):
    """What boxes hold, in a tuple of them too."""
    if isinstance(x, tuple):
        return type(x)(*map(_held, x)) if hasattr(x, "_fields") else tuple(map(_held, x))
    return x.held if isinstance(x, Box) else x


def _boxed(x):
    if isinstance(x, tuple):
        return type(x)(*map(_boxed, x)) if hasattr(x, "_fields") else tuple(map(_boxed, x))
    return None if x is None else Box(x)


# --- facts, and the way in and out -----------------------------------------------------------------------------------


def owns(x):
    return isinstance(x, Box)


def dtype(x):
    return x.dtype.name


def asarray(x, *, like=None):
    return x if isinstance(x, Box) else Box(x)


def to_numpy(x):
    return x.held


# --- primitives ------------------------------------------------------------------------------------------------------


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
    return Box(on_numpy.where(condition.held, _held(x1), _held(x2)))


def equal(x1, x2):
    return Box(np.equal(x1.held, _held(x2)))


def isfinite(x):
    return Box(np.isfinite(x.held))


def sum(x, *, axis, dtype=None):
    return Box(x.held.sum(axis, dtype))


def min(x, *, axis):
    return Box(x.held.min(axis))


def count_nonzero(x, *, axis):
    return Box(np.count_nonzero(x.held, axis))


def all(x, *, axis):
    return Box(x.held.all(axis))


def permute_dims(x, axes):
    return Box(x.held.transpose(axes))


def concat(arrays, *, axis):
    return Box(np.concatenate([x.held for x in arrays], axis))


def log(x):
    return Box(np.log(x.held))


def exp(x):
    return Box(np.exp(x.held))


def take(x, indices):
    return Box(x.held[indices.held])


def scope(name):
    return np.errstate(all="ignore")  # no profiler, and no warnings about NaN


# --- kernels ---------------------------------------------------------------------------------------------------------


def token_statistics(*arguments):
    return _boxed(on_numpy.token_statistics(*map(_held, arguments)))


def token_pullback(*arguments):
    return _boxed(on_numpy.token_pullback(*map(_held, arguments)))


def label_statistics(*arguments):
    return _boxed(on_numpy.label_statistics(*map(_held, arguments)))


def label_pullback(*arguments):
    return _boxed(on_numpy.label_pullback(*map(_held, arguments)))


def sigmoid_nll(*arguments):
    return _boxed(on_numpy.sigmoid_nll(*map(_held, arguments)))


def sigmoid_pullback(*arguments):
    return _boxed(on_numpy.sigmoid_pullback(*map(_held, arguments)))


base.complete(__name__)  # the rest has the natural answers of a plain framework
