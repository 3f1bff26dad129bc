"""Linear losses in NumPy with one mistake each, and the invariants that must notice it."""

from functools import partial

import numpy as np

CHUNK = 4


def linear(hidden, kernel, targets, weights, *, chunk=CHUNK, mistake=""):
    """(loss, (d_hidden, d_kernel)), chunk by chunk: the mean over the weights."""
    features = hidden.shape[-1]
    h, y, w = hidden.reshape(-1, features).astype("float32"), targets.reshape(-1), weights.reshape(-1)
    k = kernel.astype("float32")
    counted = w.sum(dtype="float64")
    divisor = w.size if mistake == "all_tokens" else counted
    factor = np.where(w == 0, 0, w.astype("float64") / (divisor or 1)).astype("float32")
    total, to_hidden, to_kernel = 0.0, np.zeros_like(h), np.zeros(k.shape, "float32")
    if mistake == "half_sum":
        to_kernel = to_kernel.astype(kernel.dtype)
    starts = list(range(0, len(h), chunk))
    if mistake == "last_dropped" and len(starts) > 1:
        starts = starts[:-1] if len(h) % chunk else starts
    if mistake == "last_twice" and len(h) % chunk and len(starts) > 1:
        starts.append(starts[-1])
    for start in starts:
        at = slice(start, start + chunk)
        x = h[at]
        if mistake != "nan_times_0":
            x = np.where(factor[at, None] == 0, 0, x)
        z = x @ k
        nll, slope = tokens(np.where(factor[at, None] == 0, 0, z), np.where(factor[at] == 0, 0, y[at]))
        total += (factor[at] * nll).sum(dtype="float64")
        slope = factor[at, None] * slope
        to_hidden[at] = np.where(factor[at, None] == 0, 0, slope @ k.T)
        to_kernel += (x.T @ slope).astype(to_kernel.dtype)
    if mistake == "gradient_shared":
        to_kernel = to_kernel * np.float32(0.5)
    gradients = to_hidden.reshape(hidden.shape), to_kernel
    return np.float32(total), tuple(x.astype(kernel.dtype) for x in gradients)


def tokens(z, y):
    """The losses and their slopes in the accurate form; labels that are no class are refused."""
    if y.size and not (y.min() >= 0 and y.max() < z.shape[-1]):
        raise ValueError("a label is no class")
    onehot = np.arange(z.shape[-1]) == y[:, None]
    others = np.where(onehot, -np.inf, z)
    highest = others.max(-1, initial=-np.inf)
    with np.errstate(all="ignore"):
        odds = np.exp(others - highest[:, None]).sum(-1), (z * onehot).sum(-1) - highest
    log_odds = np.log(odds[0]) - odds[1]
    nll = np.logaddexp(0, log_odds)
    share = np.exp(others - highest[:, None]) / odds[0][:, None]
    wrong = np.exp(-np.logaddexp(0, -log_odds))
    return nll, np.where(onehot, -wrong[:, None], share * wrong[:, None])


WRONG = {
    "nan_times_0": {"masked_hidden"},
    "all_tokens": {"kernel_gradients", "masked_hidden", "padding"},
    "last_dropped": {"chunk_boundaries"},
    "last_twice": {"chunk_boundaries"},
    "half_sum": {"kernel_sum"},
    "gradient_shared": {"kernel_gradients", "tied_embeddings"},
}
"""Each must be among those that notice."""


def wrong(mistake):
    return partial(linear, mistake=mistake)
