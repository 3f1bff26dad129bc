"""The figures of a report as SVG that stands within a page, drawn by matplotlib."""

import io
import re
from typing import Any

import numpy as np

from seqloss.commands.render.text import ascii_line
from seqloss.commands.report import Figure, HeatMap, Histogram, Scatter

Array = Any

# Text, axes and frames have the colour of the page's text. matplotlib knows no such thing, so that they are drawn in a
# colour that nothing else has, which is then replaced.
_INK = "#010203"
_SERIES = ("#3b82f6", "#e8710a", "#12a150", "#b45bd6", "#e5484d", "#8b8d98")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "seqloss",
    "font.family": "sans-serif",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}

CELLS = 160
"""Points that fall into the same of so many by so many cells are drawn once: a page of 50,000 points would crawl."""

BINS = 48


def svg(figure: Figure, number: int) -> str:
    """The drawing of one figure; the number makes its identifiers unique in the page."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    # A canvas of its own, and no pyplot: so neither a display nor the user's settings matter.
    with mpl.rc_context({**mpl.rcParamsDefault, **_STYLE}):
        canvas = Canvas(figsize=(8, 3.6), layout="constrained")
        FigureCanvasSVG(canvas)
        axes = canvas.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        if isinstance(figure, Scatter):
            _scatter(axes, figure)
        elif isinstance(figure, Histogram):
            _histogram(axes, figure)
        else:
            _heat_map(canvas, axes, figure)
        drawn = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        canvas.savefig(drawn, format="svg", transparent=True, metadata=nothing)
    return _inline(drawn.getvalue(), figure.title, number)


def _inline(text: str, title: str, number: int) -> str:
    """Only the element, with identifiers of its own and without sizes, because the page sets the size."""
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>figure{number}-", body)
    label = ascii_line(title).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'<svg role="img" aria-label="{label}" {box[0] if box else ""}>{body}'.rstrip()


def _scatter(axes: Any, figure: Scatter) -> None:
    floor = _floor(errors for _, errors in figure.series.values())
    for colour, (name, (x, y)) in zip(_cycled(len(figure.series)), figure.series.items(), strict=True):
        x, y = _thinned(np.asarray(x, float), np.asarray(y, float), floor)
        axes.plot(x, y, ".", markersize=3, color=colour, label=_plain(name), alpha=0.7)
    if any(np.any(np.asarray(x) > 0) for x, _ in figure.series.values()):
        axes.set_xscale("log")
    _finish(axes, figure, floor, axes.set_yscale, axes.axhline)
    axes.set_ylabel(_plain(figure.y_label))


def _histogram(axes: Any, figure: Histogram) -> None:
    floor = _floor(figure.series.values())
    shown = {name: _shown(np.asarray(values, float), floor) for name, values in figure.series.items()}
    highest = max((values.max() for values in shown.values() if values.size), default=1.0)
    edges = np.geomspace(floor, max(highest, 2 * floor) * 1.05, BINS)
    for colour, (name, values) in zip(_cycled(len(shown)), shown.items(), strict=True):
        axes.stairs(np.histogram(values, edges)[0], edges, color=colour, label=_plain(name), linewidth=1.4)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylabel("entries")
    _finish(axes, figure, floor, axes.set_xscale, axes.axvline)


def _finish(axes: Any, figure: Scatter | Histogram, floor: float, scale: Any, line: Any) -> None:
    scale("log")
    axes.set_xlabel(_plain(figure.x_label))
    if figure.limit:
        line(figure.limit, color=_INK, linewidth=1, linestyle="--", label=f"allowed at most: {figure.limit:g}")
    if figure.series:
        axes.legend(fontsize="small", markerscale=3)


def _heat_map(canvas: Any, axes: Any, figure: HeatMap) -> None:
    from matplotlib.colors import LogNorm

    values = np.asarray(figure.values, float)
    floor = _floor([values])
    highest = max(float(values[np.isfinite(values)].max(initial=floor)), 2 * floor)
    image = axes.imshow(
        np.clip(values, floor, highest),
        aspect="auto",
        interpolation="nearest",
        cmap="viridis",
        norm=LogNorm(floor, highest),
    )
    if figure.mark is not None:
        row, time = figure.mark
        axes.plot(time, row, "o", markersize=14, markerfacecolor="none", markeredgecolor="#e5484d", markeredgewidth=2)
        axes.plot(time, row, "+", markersize=8, color="#e5484d")
    axes.set_xlabel("time")
    axes.set_ylabel("row")
    axes.spines[:].set_visible(False)
    canvas.colorbar(image, ax=axes, label=_plain(figure.scale_label))


def _plain(text: str) -> str:
    """The text, in which a dollar sign starts no formula; in ASCII, which every font has."""
    return ascii_line(text).replace("$", r"\$")


def _cycled(count: int) -> list[str]:
    return [_SERIES[i % len(_SERIES)] for i in range(count)]


def _floor(all_errors: Any) -> float:
    """Where zeros are drawn, which have no logarithm: below the smallest number that is worth seeing."""
    positive = [e[np.isfinite(e) & (e > 0)] for e in (np.asarray(errors, float) for errors in all_errors)]
    smallest = min((float(e.min()) for e in positive if e.size), default=1.0)
    return min(max(smallest / 2, 1e-3), 0.5)


def _shown(errors: Array, floor: float) -> Array:
    """The errors that can be drawn: zeros at the floor, infinities at the highest finite one, no NaN."""
    errors = errors[~np.isnan(errors)]
    finite = errors[np.isfinite(errors)]
    return np.clip(errors, floor, max(finite.max(initial=floor), 2 * floor) * 2)


def _thinned(x: Array, y: Array, floor: float) -> tuple[Array, Array]:
    """One point for each cell that has any."""
    known = ~np.isnan(x) & ~np.isnan(y) & (x > 0)
    x, y = x[known], _shown(y[known], floor)
    if not x.size:
        return x, y
    cells = [_cells(np.log(x)), _cells(np.log(y))]
    _, first = np.unique(np.stack(cells), axis=1, return_index=True)
    return x[first], y[first]


def _cells(x: Array) -> Array:
    low, span = x.min(), np.ptp(x)
    return np.zeros(x.shape, int) if not span else ((x - low) / span * CELLS).astype(int)
