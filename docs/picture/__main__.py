"""Draws docs/architecture.svg out of the imports of the library: ``python -m docs.picture [FILE]``, in the checkout.

A room is a folder of modules. It stands above everything that it imports, and an arrow goes from it to what it imports.
An arrow is left out where a longer way says the same.
"""

import sys
import textwrap
from pathlib import Path

from docs.picture import places, rooms
from docs.picture.places import MARGIN, WIDTH, Spot
from docs.picture.rooms import Room

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "seqloss"
PICTURE = ROOT / "docs" / "architecture.svg"

AISLE, TITLE, LINE, LONGEST = 40, 26, 16, 46

# Of these rooms the modules are named too, because the page speaks of them one by one.
OPENED = ("seqloss", "core", "losses")
COLOURS = {
    "seqloss": "#d9f0dd",
    "weighted": "#d9f0dd",
    "samplers": "#d9f0dd",
    "losses": "#e9f3d6",
    "core": "#e6e9ef",
    "backends": "#dbe8fb",
    "compat": "#f3e4f7",
}
OTHERS = "#fbe1d6"


def svg(package: Path = PACKAGE) -> str:
    """The picture."""
    graph = rooms.reduced(rooms.rooms(package))
    placed, lines = places.spots(graph)
    placed = places.ordered(placed, lines)
    twice = {room.folder for room in graph if sum(room.folder == other.folder for other in graph) > 1}
    text = {room: _listed(room, twice) for room in graph}
    width = {spot: 2.0 if spot.passing else _width(spot.room, text) for row in placed for spot in row}
    x = places.centres(placed, lines, width)
    top: list[float] = [MARGIN]
    tall = [max(_height(text[spot.room]) for spot in row if not spot.passing) for row in placed]
    for height in tall:
        top.append(top[-1] + height + AISLE)
    boxes = [_drawn(spot, text[spot.room], x[spot], top[spot.row], width[spot]) for spot in x if not spot.passing]
    arrows = []
    up = places.turned(lines)
    for spot, others in lines.items():
        leaves = top[spot.row] + (tall[spot.row] if spot.passing else _height(text[spot.room]))
        for other in others:
            start, end = _port(spot, other, others, x, width), _port(other, spot, up[other], x, width)
            arrows.append(_arrow(start, leaves, end, top[other.row], spot, other, top[spot.row] + tall[spot.row]))
        if spot.passing:
            arrows.append(f'<path d="M{x[spot]:.0f} {top[spot.row]:.0f} V{leaves:.0f}"/>')
    bottom = top[-1] - AISLE + MARGIN
    return _PAGE.format(width=WIDTH, height=f"{bottom:.0f}", arrows="\n    ".join(arrows), boxes="\n  ".join(boxes))


def _listed(room: Room, twice: set[str]) -> list[str]:
    """The lines with the modules of a room, where they are named."""
    if room.folder not in OPENED and room.folder not in twice:
        return []
    names = [name.rpartition(".")[2] for name in room.modules if name != room.folder and name]
    text = ", ".join(names or ["__init__"])
    # As narrow as the number of lines allows.
    fewest = len(textwrap.wrap(text, LONGEST))
    return next(lines for width in range(1, LONGEST + 1) if len(lines := textwrap.wrap(text, width)) == fewest)


def _width(room: Room, text: dict[Room, list[str]]) -> float:
    return max([8.8 * len(room.folder), *(6.6 * len(line) for line in text[room])]) + 22


def _height(text: list[str]) -> float:
    return TITLE + 8 + LINE * len(text)


def _port(spot: Spot, other: Spot, others: list[Spot], x: dict[Spot, float], width: dict[Spot, float]) -> float:
    """Where a line meets a room: side by side with the others, in the order of where they go."""
    if spot.passing:
        return x[spot]
    number = sorted(others, key=lambda each: x[each]).index(other)
    return x[spot] + (number - (len(others) - 1) / 2) * min(26, (width[spot] - 24) / len(others))


def _arrow(start: float, leaves: float, end: float, arrives: float, spot: Spot, other: Spot, free: float) -> str:
    """Straight down to the aisle, and through it in a curve."""
    middle = (free + arrives) / 2
    head = "" if other.passing else ' marker-end="url(#head)"'
    arrives -= 0 if other.passing else 5
    curve = f"C{start:.0f} {middle:.0f} {end:.0f} {middle:.0f} {end:.0f} {arrives:.0f}"
    return f'<path d="M{start:.0f} {leaves:.0f} V{free:.0f} {curve}"{head}/>'


def _drawn(spot: Spot, text: list[str], x: float, y: float, width: float) -> str:
    colour = COLOURS.get(spot.room.folder.partition(".")[0], OTHERS)
    lines = [
        f'<rect x="{x - width / 2:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_height(text):.0f}" rx="5" '
        f'fill="{colour}"/>',
        f'<text x="{x:.0f}" y="{y + 22:.0f}">{spot.room.folder}</text>',
    ]
    for number, line in enumerate(text, 1):
        lines.append(f'<text class="small" x="{x:.0f}" y="{y + 23 + LINE * number:.0f}">{line}</text>')
    return "\n  ".join(lines)


_PAGE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="sans-serif">
  <title>The rooms of seqloss: imports only go down</title>
  <style>
    rect {{ stroke: #5b6575; }}
    text {{ fill: #1d2430; font-size: 15px; text-anchor: middle; }}
    text.small {{ font-size: 12.5px; fill: #4a5568; }}
  </style>
  <defs>
    <marker id="head" viewBox="0 0 8 8" refX="3" refY="4" markerWidth="8" markerHeight="8" orient="auto"
      markerUnits="userSpaceOnUse"><path d="M0 0 L8 4 L0 8 z" fill="#5b6575"/></marker>
  </defs>
  <rect width="{width}" height="{height}" fill="#ffffff" style="stroke: none"/>
  <g fill="none" stroke="#5b6575" stroke-width="1.3">
    {arrows}
  </g>
  {boxes}
</svg>
"""


if __name__ == "__main__":
    (Path(sys.argv[1]) if sys.argv[1:] else PICTURE).write_text(svg(), encoding="utf-8")
