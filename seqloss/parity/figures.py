"""How far each token of each backend is from the reference, drawn."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from seqloss.commands.report import Figure, HeatMap, Histogram, Scatter
from seqloss.parity.judge import DTYPE, Expected
from seqloss.testing import tolerances

Array = Any


class Distances(NamedTuple):
    """Distances from the reference in ULP, NaN where there is no token."""

    losses: Array
    """Of each token loss, or whatever the function returns."""
    worst: Array | None
    """The largest of each token, of its loss and its gradients, as [rows, time]; None where there are no tokens."""
    shares: Array | None
    """The same as shares of what is allowed: more than 1 is a divergence."""


def distances(arrays: Mapping[str, Array], expected: Expected) -> Distances:
    """Those of the results that have the right shape."""
    found = {
        name: _distance(arrays[name], expected, name)
        for name in expected.values
        if name in arrays and arrays[name].shape == expected.values[name].shape
    }
    losses = found.get(_main(expected), np.zeros(0))
    if expected.lengths is None:
        return Distances(losses, None, None)
    tokens = np.arange(expected.values["token loss"].shape[1]) < expected.lengths[:, None]
    # Padding is blank, unless something leaks into it.
    worst = shares = np.where(tokens, 0.0, np.nan)
    for name, distance in found.items():
        if distance.ndim >= tokens.ndim:
            classes = tuple(range(tokens.ndim, distance.ndim))
            leaks = np.where((arrays[name] != 0).any(classes), np.inf, np.nan)
            worst = np.fmax(worst, np.where(tokens, distance.max(classes), leaks))
            shares = np.fmax(shares, np.where(tokens, (distance / expected.bounds[name]).max(classes), leaks))
    if losses.shape == tokens.shape:
        losses = np.where(tokens, losses, np.nan)
    return Distances(losses, worst, shares)


def _main(expected: Expected) -> str:
    """The result with an entry for each token, or the value of a function."""
    return "token loss" if "token loss" in expected.values else "value"


def _distance(actual: Array, expected: Expected, name: str) -> Array:
    """In ULP; infinite where a number is missing. Row by row, for it is computed in wide floats."""
    values = expected.values[name]
    scale = np.broadcast_to(expected.scales.get(name, 0.0), values.shape)
    if not values.ndim:
        return np.asarray(tolerances.ulps(actual, values, DTYPE, scale), np.float64)
    distance = np.empty(values.shape)
    for row in range(len(values)):
        distance[row] = tolerances.ulps(actual[row], values[row], DTYPE, scale[row])
    return distance


def draw(of_backends: Mapping[str, Distances], expected: Expected) -> list[Figure]:
    """Error against loss, how often each error occurs, and where in the batch."""
    if not of_backends:
        return []
    name = _main(expected)
    values, limit = expected.values[name], float(np.max(expected.bounds[name]))
    usable = {backend: d for backend, d in of_backends.items() if d.losses.shape == values.shape}
    of_value = {backend: (np.abs(values).ravel(), d.losses.ravel()) for backend, d in usable.items()}
    told = "Each point is one entry: its loss by the reference, and its error in units in the last place."
    counted = "Exact entries are counted at the left end."
    return [
        Scatter(f"Error against {name}", told, f"{name} (reference)", "error (ULP)", of_value, limit),
        Histogram(
            "How often each error occurs", counted, "error (ULP)", {b: e for b, (_, e) in of_value.items()}, limit
        ),
        *_maps(of_backends),
    ]


def _maps(of_backends: Mapping[str, Distances]) -> list[Figure]:
    """One for each backend that diverges somewhere; if none does, one of the worst of all."""
    known: dict[str, tuple[Array, Array]] = {
        backend: (d.worst, d.shares) for backend, d in of_backends.items() if d.shares is not None
    }
    found: list[Figure] = []
    for backend, (worst, shares) in known.items():
        beyond = np.argwhere(np.fmax(shares, 0) > 1)
        if len(beyond):
            row, time = (int(i) for i in beyond[0])
            caption = f"{len(beyond):,} of the positions are wrong; the first is in row {row} at time {time}."
            found.append(HeatMap(f"Where {backend} diverges", caption, "worst error (ULP)", worst, (row, time)))
    if found or not known:
        return found
    highest = np.fmax.reduce(np.stack([worst for worst, _ in known.values()]))
    row, time = (int(i) for i in np.unravel_index(np.nanargmax(highest), highest.shape))
    caption = f"The largest of all backends; nothing diverges. The worst token is in row {row} at time {time}."
    return [HeatMap("The worst error of each token", caption, "worst error (ULP)", highest, (row, time))]
