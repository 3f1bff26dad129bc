"""A backend for NumPy arrays that is right: its kernels are the oracle, rounded. The faults are put into it.

It shares no line with the NumPy backend, so that a check which only that one passes is noticed.
"""

import numpy as np

from seqloss.backends import base
from seqloss.core.contract import SMALLEST_ACTIVE, Statistics
from seqloss.testing import oracle, oracle_statistics


def owns(x):
    return isinstance(x, (np.ndarray, np.generic))


def dtype(x):
    return x.dtype.name


def asarray(x, *, like=None):
    return np.asarray(x)


def to_numpy(x):
    return x


def astype(x, dtype):
    return x.astype(dtype)


def arange(stop, *, like):
    return np.arange(stop)


def ones_like(x, *, dtype):
    return np.ones_like(x, dtype=dtype)


def reshape(x, shape):
    return np.reshape(x, shape)


def expand_dims(x, *, axis):
    return np.expand_dims(x, axis)


def where(condition, x1, x2):
    kind = (x1 if hasattr(x1, "dtype") else x2).dtype
    return np.where(condition, np.asarray(x1, kind), np.asarray(x2, kind))


def equal(x1, x2):
    return np.equal(x1, x2)


def isfinite(x):
    return np.isfinite(x)


def sum(x, *, axis, dtype=None):
    return np.sum(x, axis=axis, dtype=dtype)


def min(x, *, axis):
    return np.min(x, axis=axis)


def count_nonzero(x, *, axis):
    return np.asarray(np.count_nonzero(x, axis=axis))


def all(x, *, axis):
    return np.all(x, axis=axis)


def permute_dims(x, axes):
    return np.transpose(x, axes)


def concat(arrays, *, axis):
    return np.concatenate(arrays, axis)


def log(x):
    return np.log(x)


def exp(x):
    return np.exp(x)


def take(x, indices):
    return x[indices]


def scope(name):
    return np.errstate(all="ignore")


# --- kernels ---------------------------------------------------------------------------------------------------------


def token_statistics(logits, targets, active, prior, spec):
    return _rounded(_tokens(logits, targets, prior, spec), active, spec)


def token_pullback(cotangents, logits, targets, active, prior, statistics, spec):
    return _gradient(cotangents, _tokens(logits, targets, prior, spec), logits, active, spec)


def label_statistics(logits, labels, active, prior, spec):
    return _rounded(oracle_statistics.of_labels(logits, labels, None, prior, spec.softcap), active, spec)


def label_pullback(cotangents, logits, labels, mass, active, prior, statistics, spec, wrt_labels):
    exact = oracle_statistics.of_labels(logits, labels, mass, prior, spec.softcap)
    to_logits = _gradient(cotangents, exact, logits, active, spec)
    if not wrt_labels:
        return to_logits, None
    g = np.zeros(mass.shape) if cotangents.nll is None else _used(cotangents.nll, active)
    with np.errstate(all="ignore"):
        to_labels = np.where(g[..., None] == 0, 0, g[..., None] * exact.dlabels)
    return to_logits, to_labels.astype(labels.dtype)


def sigmoid_nll(logits, labels, pos_weight):
    q = 1.0 if pos_weight is None else pos_weight
    return oracle.binary_entries(logits, labels, q).nll.astype(labels.dtype)


def sigmoid_pullback(cotangent, logits, labels, pos_weight, wrt_labels):
    exact = oracle.binary_entries(logits, labels, 1.0 if pos_weight is None else pos_weight)
    with np.errstate(all="ignore"):
        slopes = (exact.dlogits, exact.dlabels, exact.dpos_weight)
        slopes = [np.where(cotangent == 0, 0, cotangent * slope) for slope in slopes]
    to_logits, to_labels, to_weight = (
        slope.astype(x.dtype) for slope, x in zip(slopes, (logits, labels, labels), strict=True)
    )
    return (to_logits, to_labels, None if pos_weight is None else to_weight) if wrt_labels else (to_logits, None, None)


def _tokens(logits, targets, prior, spec):
    """The oracle on rows in an order that is always the same, so that no other one can change a bit."""
    order = np.argsort(-logits, axis=-1, kind="stable")
    classes = logits.shape[-1]
    targets = targets.astype(np.int64)
    legal = (targets >= 0) & (targets < classes)
    places = np.argsort(order, axis=-1)
    moved = np.take_along_axis(places, np.where(legal, targets, 0)[..., None], -1)[..., 0]
    sorted_prior = None if prior is None else prior[order]
    found = oracle_statistics.of_tokens(
        np.take_along_axis(logits, order, -1), np.where(legal, moved, -1), sorted_prior, spec.softcap
    )
    rows = ("dnll", "dlse", "dunl", "dnll_scale", "dunl_scale")
    return found._replace(**{name: np.take_along_axis(getattr(found, name), places, -1) for name in rows})


def _rounded(exact, active, spec):
    exact = exact._replace(mass=np.where(np.isnan(exact.mass), 0, exact.mass))
    wanted = (True, spec.lse, spec.unl, spec.unl)
    return Statistics(
        *(
            (x if active is None else np.where(active, x, 0)).astype(spec.dtype) if is_wanted else None
            for x, is_wanted in zip(exact[:4], wanted, strict=True)
        ),
        saved=(),
    )


def _used(cotangent, active):
    return cotangent if active is None else np.where(active, cotangent, 0)


def _gradient(cotangents, exact, logits, active, spec):
    given = [None if g is None else _used(g, active) for g in cotangents]
    rows, _ = oracle_statistics.pulled(exact, *given)
    live = np.logical_or.reduce([np.zeros(exact.nll.shape, bool), *(g != 0 for g in given if g is not None)])
    rows = np.where((live & np.isnan(exact.nll))[..., None], np.nan, rows)
    if spec.dtype == "float64" != logits.dtype:
        rows = np.where(abs(rows) < SMALLEST_ACTIVE, 0, rows)
    with np.errstate(all="ignore"):
        # By way of float64: NumPy's long doubles become float32 on their way to float16, which rounds twice.
        return rows.astype("float64").astype(logits.dtype)


base.complete(__name__)
