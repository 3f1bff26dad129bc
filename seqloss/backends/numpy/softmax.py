"""NumPy: cross entropy against soft labels, and its pullback. The formulas are in ``seqloss.core.contract``.

Both go through the rows in blocks and threads, as the kernels of ``cross_entropy`` do.
"""

import numpy as np

from seqloss.backends.numpy.blocks import Block, for_blocks
from seqloss.backends.numpy.compiled import in_c_where_built
from seqloss.backends.numpy.numbers import rows_of, sum_of_others, total, zero_if_faint, zeros
from seqloss.backends.numpy.rows import Entries, Flow, Sums, plus, pulled_back, times
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.protocol import Array


@in_c_where_built
def label_statistics(logits: Array, labels: Array, active: Array | None, prior: Array | None, spec: Spec) -> Statistics:
    z, y = rows_of(logits), rows_of(labels)
    sums = Sums.of(z, prior, spec)
    nll, at_highest = np.zeros(len(z), spec.dtype), np.zeros(len(z), np.intp)

    def forward(block: Block) -> None:
        rows, (own, powers, *_) = block.rows, block.rooms
        places = sums.below_highest(block)
        at_highest[rows] = block.classes(places)
        np.exp(own, out=powers)
        sums.rest[rows] = rest = sum_of_others(powers, places, block.rooms[-1])
        own -= np.log1p(rest)[:, None]
        given = block.turned(y[rows])
        own *= given
        costs = total(own)
        if np.count_nonzero(np.isfinite(costs)) < len(costs):
            # A class with logit -infinity and label 0 costs nothing.
            own[given == 0] = 0
            costs = total(own)
        nll[rows] = 0 - costs

    used = None if active is None else active.reshape(-1)
    for_blocks(forward, z, used, nll.dtype, 3 if spec.dtype == "float64" else 2)
    log = sums.log()
    nll += sums.highest - sums.highest
    return sums.statistics(nll, log, logits.shape[:-1], used, (sums.rest, log, at_highest))


@in_c_where_built
def label_pullback(
    cotangents: Cotangents,
    logits: Array,
    labels: Array,
    mass: Array,
    active: Array | None,
    prior: Array | None,
    statistics: Statistics,
    spec: Spec,
    wrt_labels: bool,
) -> tuple[Array, Array | None]:
    y, mass = rows_of(labels), mass.reshape(-1)
    highest, whole, rest, log, index = statistics.saved
    flow = Flow.of(cotangents, statistics.mass, active)
    if flow.used is None:
        return np.zeros_like(logits), np.zeros_like(labels) if wrt_labels else None
    to_labels = zeros(y.shape, y.dtype) if wrt_labels and flow.to_nll is not None else None
    own = y[np.arange(len(y)), index].astype(spec.dtype, copy=False)
    left = np.where(2 * abs(own) > abs(mass), (mass - own) - mass * (rest / whole), mass / whole - own)
    entry = plus(times(flow.to_nll, left), times(flow.to_powers, 1 / whole))
    scale = plus(times(flow.to_nll, mass), flow.to_powers) / whole

    def beside(block: Block, below: Array) -> Array:
        rows, room = block.rows, block.rooms[1]
        to_nll = flow.to_nll[rows][:, None]
        if to_labels is not None:
            np.subtract(log[rows][:, None], below, out=room)
            room *= to_nll
            if room.dtype != to_labels.dtype:
                zero_if_faint(room)
            to_labels[rows] = room
        return np.multiply(to_nll, block.turned(y[rows]), out=room)

    entries = Entries(highest, scale, index, entry, [])
    to_logits = pulled_back(logits, entries, flow, prior, spec, None if flow.to_nll is None else beside)
    if to_labels is None:
        return to_logits, np.zeros_like(labels) if wrt_labels else None
    idle = (flow.to_nll == 0) | ~flow.used
    if np.count_nonzero(idle):
        to_labels[idle] = 0
    return to_logits, to_labels.reshape(labels.shape)
