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
    """For each file: error against token loss, how often each error occurs, and where in the batch."""
    figures: list[Figure] = []
    for number, (path, one) in enumerate(files.items()):
        found = {
            (outcome.framework, name): outcome.arrays[f"{number}.{name}"]
            for outcome in outcomes
            for name in one.results
            if outcome.arrays.get(f"{number}.{name}", np.zeros(0)).size
        }
        if found:
            unit = _unit(path, outcomes)
            figures += [*_against_losses(path, one, found, unit), _histogram(path, found, unit)]
            figures += _maps(path, found, unit)
    return figures


def _unit(path: str, outcomes: Sequence[Outcome]) -> str:
    """What the distances are in, by the name that a report has for it."""
    results = [outcome.facts.get("files", {}).get(path, {}).get("results", {}) for outcome in outcomes]
    at_scale = any(result["ulp_at_scale"] is not None for of_backend in results for result in of_backend.values())
    return "ULP at scale" if at_scale else "ULP"


def _against_losses(path: str, one: Golden, found: Mapping[tuple[str, str], Array], unit: str) -> list[Figure]:
    recorded = np.abs(np.asarray(one.results.get(_LOSSES, 0), float)).ravel()
    losses = np.where(np.isfinite(recorded), recorded, np.nan)  # what is infinite has no place on an axis
    series = {
        backend: (losses, np.abs(distances).ravel()) for (backend, name), distances in found.items() if name == _LOSSES
    }
    caption = "Each point is one token: its recorded loss, and its error in units in the last place."
    title = f"{path}: error against token loss"
    return [Scatter(title, caption, "token loss (recorded)", f"error ({unit})", series)] if series else []


def _histogram(path: str, found: Mapping[tuple[str, str], Array], unit: str) -> Figure:
    caption = "Exact entries are counted at the left end."
    series = {f"{backend} {name}": np.abs(distances).ravel() for (backend, name), distances in found.items()}
    return Histogram(f"{path}: how often each error occurs", caption, f"error ({unit})", series)


def _maps(path: str, found: Mapping[tuple[str, str], Array], unit: str) -> list[Figure]:
    """One for each result that diverges, as [rows, time]; if none does, one of the worst of a result with most axes."""
    of_batches = {key: distances for key, distances in found.items() if distances.ndim >= 2}
    maps: list[Figure] = []
    for (backend, name), distances in of_batches.items():
        wrong = np.argwhere(np.signbit(distances))
        if len(wrong):
            row, time = (int(i) for i in wrong[0][:2])
            caption = f"{len(wrong):,} of the entries differ; the first is in row {row} at time {time}."
            title = f"{path}: where {name} of {backend} diverges"
            maps.append(HeatMap(title, caption, f"largest error ({unit})", _worst(distances), (row, time)))
    if maps or not of_batches:
        return maps
    (backend, name), distances = max(of_batches.items(), key=lambda item: (item[1].ndim, item[1].max()))
    highest = _worst(distances)
    row, time = (int(i) for i in np.unravel_index(highest.argmax(), highest.shape))
    caption = f"None of them diverges. The largest error of {name} is that of {backend} in row {row} at time {time}."
    return [HeatMap(f"{path}: the largest errors", caption, f"largest error ({unit})", highest, (row, time))]


def _worst(distances: Array) -> Array:
    """The largest of each place in the first two axes."""
    return np.abs(distances).max(tuple(range(2, distances.ndim)))
