"""NumPy: the cross-entropy kernel and its pullback. The formulas are in ``seqloss.core.contract``.

Those of soft labels are used here too: the sum of exponentials leaves out not the label, but the first class with the
largest logit, ``m``. So no statistic cancels, whatever the label is::

    nll = log1p(rest) + (m - t)        lse = m + log1p(rest)        p_j = exp(z_j - m) / (1 + rest)

Both kernels go through the rows in blocks that stay in a core's cache, so that memory is read once and nothing but the
result is allocated, and big arrays are shared among threads. Between two operations of NumPy a thread holds the lock of
the interpreter, so all small work is done once for all rows. For tiny inputs the exponentials are kept for the
pullback: there a call of NumPy costs more than its work.

Eager arrays of other frameworks come here too (``seqloss.backends.on_numpy``): logits in uint16 are the bits of
bfloat16.
"""

import numpy as np

from seqloss.backends.numpy.blocks import Block, for_blocks, is_tiny
from seqloss.backends.numpy.compiled import in_c_where_built
from seqloss.backends.numpy.numbers import rows_of, sum_of_others
from seqloss.backends.numpy.rows import Entries, Flow, Sums, plus, pulled_back, times
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array


def indices(logits: Array, targets: Array) -> tuple[Array, Array]:
    index = targets.astype(np.intp, copy=False)
    legal = index.view(np.uintp) < logits.shape[-1]  # what is negative is huge
    return index if np.count_nonzero(legal) == legal.size else np.where(legal, index, 0), legal


def is_highest(logits: Array, targets: Array) -> Array:
    index, legal = indices(logits, targets)
    z, first = rows_of(logits), np.empty(index.size, np.intp)

    def look(block: Block) -> None:
        found = block.logits.argmax(axis=1)  # NaN is higher than all
        highest = np.take_along_axis(block.logits, found[:, None], 1)[:, 0]
        first[block.rows] = np.where(highest == highest, found, -1)

    for_blocks(look, z, None, np.dtype("float32"), rooms=0)
    return legal & (first.reshape(index.shape) == index)


@in_c_where_built
def token_statistics(
    logits: Array, targets: Array, active: Array | None, prior: Array | None, spec: Spec
) -> Statistics:
    z = rows_of(logits)
    labels = targets.reshape(-1).astype(np.intp, copy=False)
    index, legal = indices(z, labels)
    sums = Sums.of(z, prior, spec)
    gap, kept = np.zeros(len(z), spec.dtype), []
    keeps = is_tiny(z, gap.dtype)

    def forward(block: Block) -> None:
        rows, own = block.rows, block.rooms[0]
        places = sums.below_highest(block)
        memory = own.ravel("K")
        gap[rows] = memory[block.places(index[rows])]
        np.exp(own, own)
        sums.rest[rows] = sum_of_others(own, places, block.rooms[-1])
        if keeps:
            memory[places] = 1
            kept.append(own)

    used = None if active is None else active.reshape(-1)
    for_blocks(forward, z, used, gap.dtype, 2 if spec.dtype == "float64" or prior is not None else 1)
    if index is not labels:
        sums.rest[~legal] = np.nan
    log = sums.log()
    return sums.statistics(log - gap, log, targets.shape, used, (index, *kept))


@in_c_where_built
def token_pullback(
    cotangents: Cotangents,
    logits: Array,
    targets: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
) -> Array:
    highest, total, index, *kept = statistics.saved
    flow = Flow.of(cotangents, statistics.mass, active)
    if flow.used is None:
        return np.zeros_like(logits)
    below = -statistics.nll.reshape(-1)
    at_label = plus(times(flow.to_nll, np.expm1(below)), times(flow.to_powers, np.exp(below)))
    scale = plus(flow.to_nll, flow.to_powers) / total
    return pulled_back(logits, Entries(highest, scale, index, at_label, kept), flow, prior, spec)


@in_c_where_built
def token_statistics_and_pullback(
    cotangents: Cotangents,
    logits: Array,
    targets: Array,
    active: Array | None,
    prior: Array | None,
    spec: Spec,
    lse_square: Array | None = None,
    into: Array | None = None,
) -> tuple[Statistics, Array]:
    """What :func:`token_statistics` and then :func:`token_pullback` return, where the cotangents are known before.

    With ``lse_square``, one number k for each token in the dtype of the spec, the cotangent of lse is
    ``cotangents.lse + (2 * k) * lse``, of which the second is 0 where lse is not finite. The spec then asks for lse.
    The gradient may be written ``into`` an array of the shape and dtype of the logits, which may be the logits.
    In NumPy these are the two calls, and the gradient is a new array: block by block they were slower, because the
    exponentials are taken again and the gradient of a block is copied.
    """
    statistics = token_statistics(logits, targets, active, prior, spec)
    if lse_square is not None:
        cotangents = cotangents._replace(lse=plus(cotangents.lse, _slope_of_square(lse_square, statistics.lse)))
    return statistics, token_pullback(cotangents, logits, targets, active, prior, statistics, spec)


def _slope_of_square(factor: Array, lse: Array) -> Array:
    """The derivative of ``factor * lse**2``; 0 where lse is not finite, as in ``seqloss.losses.objective``."""
    return (2 * factor) * np.where(np.isfinite(lse), lse, lse.dtype.type(0))
