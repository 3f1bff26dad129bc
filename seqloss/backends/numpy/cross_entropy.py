"""NumPy: the cross-entropy kernel and its pullback. The formulas stand in ``seqloss.core.protocol``."""

import numpy as np

from seqloss.core.protocol import Array, TokenStatistics


def token_nll(logits: Array, targets: Array, active: Array | None) -> TokenStatistics:
    z, index, valid = _prepare(logits, targets)
    # A NaN, an infinity or an overflow in a row is an answer here, not an accident.
    with np.errstate(all="ignore"):
        shift = z.max(axis=-1, keepdims=True)
        t = np.take_along_axis(z, index, axis=-1)
        e = np.exp(z - shift)
        np.put_along_axis(e, index, 0, axis=-1)
        rest = e.sum(axis=-1, keepdims=True)
        gap = t - shift
        excess = rest + np.expm1(gap)
        nll = np.log1p(excess) - gap
    good = valid & np.isfinite(shift)
    nll = np.where(good, nll, np.nan)[..., 0]
    if active is not None:
        nll = np.where(active, nll, 0).astype(z.dtype)
    return TokenStatistics(nll, shift[..., 0], np.where(good, excess + 1, np.nan)[..., 0])


def token_nll_pullback(
    cotangent: Array, logits: Array, targets: Array, active: Array | None, statistics: TokenStatistics
) -> Array:
    z, index, _ = _prepare(logits, targets)
    used = cotangent != 0 if active is None else (cotangent != 0) & active
    with np.errstate(all="ignore"):
        gradient = np.exp(z - statistics.shift[..., None])
        gradient *= (cotangent / statistics.total)[..., None]
        at_target = cotangent * np.expm1(-statistics.nll)
        # total is NaN in a bad row, so its target must not be better than the rest.
        at_target = np.where(np.isnan(statistics.total), np.nan, at_target).astype(z.dtype)
        np.put_along_axis(gradient, index, at_target[..., None], axis=-1)
        gradient[~used] = 0
        return gradient.astype(logits.dtype, copy=False)


def differentiable_token_nll(logits: Array, targets: Array, active: Array | None) -> Array:
    """NumPy differentiates nothing: this is the forward kernel."""
    return token_nll(logits, targets, active).nll[()]


def _prepare(logits: Array, targets: Array) -> tuple[Array, Array, Array]:
    """Logits in the compute dtype, the label as an index that is always legal, and whether it was; [..., 1] both."""
    z = logits if logits.dtype == np.float64 else logits.astype(np.float32, copy=False)
    y = targets[..., None]
    valid = (y >= 0) & (y < z.shape[-1])
    return z, np.where(valid, y, 0).astype(np.intp), valid
