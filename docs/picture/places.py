"""Where rooms and arrows go on the page: rows from top to bottom, with few crossings."""

import itertools
from math import fsum
from typing import NamedTuple

from docs.picture.rooms import Room, downwards

WIDTH, MARGIN, GAP = 920, 14, 16
SWEEPS = 24
"""How often the rows are put in order, down and up: more of them change nothing."""


class Spot(NamedTuple):
    """What takes a place in a row: a room, or an arrow to a room further down that passes by."""

    room: Room
    row: int
    passing: bool


Lines = dict[Spot, list[Spot]]
"""For each spot those in the next row that a line goes to."""


def rows(graph: dict[Room, set[Room]]) -> list[list[Room]]:
    """The rooms of each row, from the top: everything stands right under the lowest room that imports it."""
    order = downwards(graph)
    height: dict[Room, int] = {}
    for room in reversed(order):
        height[room] = max((height[x] + 1 for x in graph[room]), default=0)
    for room in order:
        above = [height[x] for x in graph if room in graph[x]]
        height[room] = min(above, default=height[room] + 1) - 1
    top = max(height.values())
    return [[room for room in order if height[room] == top - row] for row in range(top + 1)]


def spots(graph: dict[Room, set[Room]]) -> tuple[list[list[Spot]], Lines]:
    """The spots of each row, and the lines between them.

    Lines to the same room become one as soon as they are in the same row.
    """
    placed = [[Spot(room, number, False) for room in row] for number, row in enumerate(rows(graph))]
    of_room = {spot.room: spot for row in placed for spot in row}
    lines: Lines = {}
    for spot in of_room.values():
        for room in sorted(graph[spot.room]):
            here = spot
            while True:
                last = here.row + 1 == of_room[room].row
                there = of_room[room] if last else Spot(room, here.row + 1, True)
                known = there in lines.setdefault(here, [])
                if not known:
                    lines[here].append(there)
                if not last and there not in placed[there.row]:
                    placed[there.row].append(there)
                if last or known:
                    break
                here = there
    return placed, lines


def ordered(placed: list[list[Spot]], lines: Lines) -> list[list[Spot]]:
    """The rows in an order with few crossings.

    By turns, down and up, each spot goes to the middle of its neighbours. (The sums are exact: ``sum`` adds otherwise
    since Python 3.12, and the picture is to be the same everywhere.)
    """
    up = turned(lines)
    best = now = placed
    for sweep in range(SWEEPS):
        near, step = (up, 1) if sweep % 2 == 0 else (lines, -1)
        at: dict[Spot, float] = {}
        done = []
        for row in now[::step]:
            for number, spot in enumerate(row):
                places = [at[x] for x in near.get(spot, [])]
                at[spot] = fsum(places) / len(places) if places else number
            done.append(sorted(row, key=lambda spot: at[spot]))
            at |= {spot: number for number, spot in enumerate(done[-1])}
        now = done[::step]
        if _crossings(now, lines) < _crossings(best, lines):
            best = now
    return best


def turned(lines: Lines) -> Lines:
    """The same from below: for each spot those in the row above it."""
    up: Lines = {}
    for spot, others in lines.items():
        for other in others:
            up.setdefault(other, []).append(spot)
    return up


def _crossings(placed: list[list[Spot]], lines: Lines) -> int:
    at = {spot: number for row in placed for number, spot in enumerate(row)}
    count = 0
    for row in placed:
        ends = [(at[spot], at[other]) for spot in row for other in lines.get(spot, [])]
        count += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(ends, 2))
    return count


def centres(placed: list[list[Spot]], lines: Lines, width: dict[Spot, float]) -> dict[Spot, float]:
    """Where the middle of each spot is, from the left: near its neighbours, and none on top of another."""
    up = turned(lines)
    x = {spot: WIDTH / 2 for row in placed for spot in row}
    for _ in range(SWEEPS):
        for row in (*placed, *placed[::-1]):
            wanted = []
            for spot in row:
                near = [x[other] for other in (*up.get(spot, []), *lines.get(spot, [])) for _ in _pulls(spot, other)]
                wanted.append(fsum(near) / len(near) if near else x[spot])
            x |= dict(zip(row, _apart(wanted, [width[spot] for spot in row]), strict=True))
    return x


def _pulls(spot: Spot, other: Spot) -> range:
    """How much one wants to stand over the other: a line that passes several rows is to be straight."""
    return range(9 if spot.passing and other.passing else 1)


def _apart(wanted: list[float], widths: list[float]) -> list[float]:
    """The places nearest to the wanted ones that keep the order and the gaps, and stay on the page."""
    needed = [0.0]
    for a, b in itertools.pairwise(widths):
        needed.append(needed[-1] + (a + b) / 2 + GAP)
    # Less what must lie between, the places may not fall from left to right: neighbours that do take their mean.
    groups: list[list[float]] = []
    for place, before in zip(wanted, needed, strict=True):
        groups.append([place - before])
        while len(groups) > 1 and fsum(groups[-2]) / len(groups[-2]) > fsum(groups[-1]) / len(groups[-1]):
            groups[-2:] = [[*groups[-2], *groups[-1]]]
    level = [fsum(group) / len(group) for group in groups for _ in group]
    left = MARGIN + widths[0] / 2
    right = WIDTH - MARGIN - widths[-1] / 2 - needed[-1]
    return [max(left, min(right, place)) + before for place, before in zip(level, needed, strict=True)]
