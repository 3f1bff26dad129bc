"""What ``golden check`` draws: how far each entry is from what was recorded."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqloss.commands.processes import Outcome
from seqloss.commands.report import Figure, HeatMap, Histogram, Scatter
from seqloss.testing.golden import Golden

Array = Any

_LOSSES = "token_losses"


def draw(files: Mapping[str, Golden], outcomes: Sequence[Outcome]) -> list[Figure]:
    """For each file: error against token loss, how often which error occurs, and where in the batch."""
    figures: list[Figure] = []
    for number, (path, one) in enumerate(files.items()):
        found = {
            (outcome.framework, name): outcome.arrays[f"{number}.{name}"]
            for outcome in outcomes
            for name in one.results
            if outcome.arrays.get(f"{number}.{name}", np.zeros(0)).size
        }
        if found:
            figures += [*_against_losses(path, one, found), _histogram(path, found), *_maps(path, found)]
    return figures


def _against_losses(path: str, one: Golden, found: Mapping[tuple[str, str], Array]) -> list[Figure]:
    recorded = np.abs(np.asarray(one.results.get(_LOSSES, 0), float)).ravel()
    losses = np.where(np.isfinite(recorded), recorded, np.nan)  # what is infinite has no place on an axis
    series = {
        backend: (losses, np.abs(distances).ravel()) for (backend, name), distances in found.items() if name == _LOSSES
    }
    caption = "Each point is one token: its recorded loss, and how many units in the last place it is missed by."
    title = f"{path}: error against token loss"
    return [Scatter(title, caption, "token loss (recorded)", "error (ULP)", series)] if series else []


def _histogram(path: str, found: Mapping[tuple[str, str], Array]) -> Figure:
    caption = "Entries that are met exactly are counted at the left end."
    series = {f"{backend} {name}": np.abs(distances).ravel() for (backend, name), distances in found.items()}
    return Histogram(f"{path}: how often which error occurs", caption, "error (ULP)", series)


def _maps(path: str, found: Mapping[tuple[str, str], Array]) -> list[Figure]:
    """One for each result that diverges, as [rows, time]; if none does, one of the worst of a result with most axes."""
    of_batches = {key: distances for key, distances in found.items() if distances.ndim >= 2}
    maps: list[Figure] = []
    for (backend, name), distances in of_batches.items():
        wrong = np.argwhere(np.signbit(distances))
        if len(wrong):
            row, time = (int(i) for i in wrong[0][:2])
            caption = f"{len(wrong):,} of the entries differ; the first is in row {row} at time {time}."
            title = f"{path}: where {name} of {backend} diverges"
            maps.append(HeatMap(title, caption, "worst error (ULP)", _worst(distances), (row, time)))
    if maps or not of_batches:
        return maps
    (backend, name), distances = max(of_batches.items(), key=lambda item: (item[1].ndim, item[1].max()))
    highest = _worst(distances)
    row, time = (int(i) for i in np.unravel_index(highest.argmax(), highest.shape))
    caption = f"Nothing diverges. The worst entry of {name} is that of {backend} in row {row} at time {time}."
    return [HeatMap(f"{path}: the worst errors", caption, "worst error (ULP)", highest, (row, time))]


def _worst(distances: Array) -> Array:
    """The largest of each place in the first two axes."""
    return np.abs(distances).max(tuple(range(2, distances.ndim)))
