"""Faults of facts and primitives: for each a name, and the function that has it."""

import numpy as np
from broken import right


def detached(function, x):
    return function(x), lambda cotangent: np.zeros_like(x)


def uniform(function, x):
    """As if the cotangent were all ones."""
    return x * x, lambda cotangent: 2 * x


FAULTS = {
    "owns everything": {"owns": lambda x: True},
    "owns by truth value": {"owns": lambda x: 1 if isinstance(x, np.ndarray) else 0},
    "packed form of dense arrays": {"packed_form": lambda x: (x, x, lambda values: values)},
    "dense form for dense arrays": {"dense_form": lambda x: "np.asarray({0})"},
    "shape as a list": {"shape": lambda x: list(x.shape)},
    "shape of rank 1 at least": {"shape": lambda x: x.shape or (1,)},
    "dtype as an object": {"dtype": lambda x: x.dtype},
    "dtype of another name": {"dtype": lambda x: f"np.{x.dtype.name}"},
    "device is the array": {"device": id},
    "location is a device": {"location": lambda x: "cpu"},
    "location is nowhere": {"location": lambda x: "traced"},
    "needs_grad is an array": {"needs_grad": lambda x: np.bool_(False)},
    "is_stopped is an array": {"is_stopped": lambda x: np.bool_(True)},
    "asarray widens": {"asarray": lambda x, *, like=None: np.asarray(x) + np.float64(0)},
    "asarray loses rank 0": {"asarray": lambda x, *, like=None: np.atleast_1d(x)},
    "asarray takes the dtype of like": {
        "asarray": lambda x, *, like=None: np.asarray(x) if like is None else np.asarray(x, like.dtype)
    },
    "to_numpy gives a list": {"to_numpy": lambda x: x.tolist()},
    "sizes as an array": {"sizes": lambda x: np.array(x.shape)},
    "sizes reversed": {"sizes": lambda x: x.shape[::-1]},
    "astype does nothing": {"astype": lambda x, dtype: x},
    "arange from 1": {"arange": lambda stop, *, like: np.arange(1, stop + 1)},
    "arange in floats": {"arange": lambda stop, *, like: np.arange(stop, dtype=like.dtype)},
    "arange unsigned": {"arange": lambda stop, *, like: np.arange(stop, dtype="uint32")},
    "ones_like keeps the dtype": {"ones_like": lambda x, *, dtype: np.ones_like(x)},
    "reshape in another order": {"reshape": lambda x, shape: np.reshape(x, shape, order="F")},
    "expand_dims at the end": {"expand_dims": lambda x, *, axis: x[..., None]},
    "where swapped": {"where": lambda condition, x1, x2: np.where(condition, x2, x1)},
    "where widens": {"where": lambda condition, x1, x2: np.where(condition, np.asarray(x1), np.asarray(x2))},
    "where multiplies": {"where": lambda condition, x1, x2: x1 * condition + x2 * ~condition},
    "where needs equal shapes": {"where": lambda condition, x1, x2: np.where(condition.reshape(2, -1), x1, x2)},
    "nan_unless, the other way round": {"nan_unless": lambda condition, x: right.nan_unless(~condition, x)},
    "nan_unless in float32": {"nan_unless": lambda condition, x: np.where(condition, x, np.float32(np.nan))},
    "equal is identity": {"equal": lambda x, y: np.full(np.broadcast(x, y).shape, x is y)},
    "equal nan": {"equal": lambda x, y: np.isclose(x, y, 0, 0, equal_nan=True)},
    "isfinite is not isnan": {"isfinite": lambda x: ~np.isnan(x)},
    "sum keeps the axes": {"sum": lambda x, *, axis, dtype=None: np.sum(x, axis=axis, dtype=dtype, keepdims=True)},
    "sum over one axis": {"sum": lambda x, *, axis, dtype=None: np.sum(x, axis=axis[0], dtype=dtype)},
    "sum widens": {"sum": lambda x, *, axis, dtype=None: np.sum(x, axis=axis, dtype="float64")},
    "sum never widens": {"sum": lambda x, *, axis, dtype=None: np.sum(x, axis=axis)},
    "sum widens afterwards": {
        "sum": lambda x, *, axis, dtype=None: (got := np.sum(x, axis=axis)).astype(dtype or got.dtype)
    },
    "min keeps the axes": {"min": lambda x, *, axis: np.min(x, axis=axis, keepdims=True)},
    "min over one axis": {"min": lambda x, *, axis: np.min(x, axis=axis[0])},
    "min leaves out NaN": {"min": lambda x, *, axis: np.fmin.reduce(x, axis=axis)},
    "count_nonzero counts in half": {
        "count_nonzero": lambda x, *, axis: np.sum(x, axis=axis, dtype="float16").astype(np.int64)
    },
    "count_nonzero in floats": {"count_nonzero": lambda x, *, axis: np.sum(x, axis=axis, dtype="float32")},
    "all is any": {"all": lambda x, *, axis: np.any(x, axis=axis)},
    "all over everything": {"all": lambda x, *, axis: np.all(x)},
    "surely_all is always sure": {"surely_all": lambda x: True},
    "surely_all is any": {"surely_all": lambda x: bool(x.any())},
    "surely_all is an array": {"surely_all": lambda x: np.asarray(x.all())},
    "stop_gradient changes": {"stop_gradient": lambda x: x + 1},
    "permute_dims inverted": {"permute_dims": lambda x, axes: np.transpose(x, np.argsort(axes))},
    "concat along the first axis": {"concat": lambda arrays, *, axis: np.concatenate(arrays, 0)},
    "concat stacks": {"concat": lambda arrays, *, axis: np.stack(arrays, axis)},
    "concat in floats": {"concat": lambda arrays, *, axis: np.concatenate(arrays, axis, dtype="float32")},
    "log to the base 2": {"log": np.log2},
    "log of 1 + x": {"log": np.log1p},
    "log of |x|": {"log": lambda x: np.log(np.abs(x))},
    "exp to the base 2": {"exp": np.exp2},
    "exp less 1": {"exp": np.expm1},
    "exp of half the digits": {"exp": lambda x: np.exp(x.astype("float16")).astype(x.dtype)},
    "take along the last axis": {"take": lambda x, indices: np.take(x, indices, -1, mode="clip")},
    "take sorts": {"take": lambda x, indices: x[np.sort(indices)]},
    "take of each once": {"take": lambda x, indices: x[np.unique(indices)]},
    "broadcast_like does nothing": {"broadcast_like": lambda x, like, message: (None, x)},
    "broadcast_like repeats": {"broadcast_like": lambda x, like, message: (None, np.resize(x, like.shape))},
    "broadcast_like in the dtype of like": {
        "broadcast_like": lambda x, like, message: (None, np.broadcast_to(x, like.shape).astype(like.dtype))
    },
    "broadcast_like never fits": {
        "broadcast_like": lambda x, like, message: (np.bool_(False), np.broadcast_to(x, like.shape))
    },
    "scope is None": {"scope": lambda name: None},
    "scope warns": {"scope": lambda name: np.errstate(all="warn")},
    "with_rank flattens": {"with_rank": lambda x, rank: x.reshape(-1)},
    "sizes_agree without the arrays": {"sizes_agree": lambda arrays, message: np.bool_(True)},
    "sizes_agree loses arrays": {"sizes_agree": lambda arrays, message: (np.bool_(True), list(arrays[1:]))},
    "sizes_agree never agrees": {"sizes_agree": lambda arrays, message: (np.bool_(False), list(arrays))},
    "vjp of nothing": {"vjp": detached},
    "vjp without the cotangent": {"vjp": uniform},
}
