"""The rooms of a package, from the imports of its modules.

A room is a folder of modules. It is two rooms if some of its modules stand above another folder and some below it.
"""

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Graph = dict[str, set[str]]


class Room(NamedTuple):
    folder: str
    """As in "losses.sampled"; the package itself has its own name."""
    modules: tuple[str, ...]


KIT = ("testing", "commands", "parity", "__main__")
"""What stands on the library and compares losses; the picture is of the library."""


def modules(package: Path) -> dict[str, Path]:
    """Every module of the library by its name without the name of the package, which itself is ""."""
    named = {_name(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: path for name, path in named.items() if name.partition(".")[0] not in KIT}


def _name(path: Path, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(found: dict[str, Path], top: str) -> Graph:
    """The modules that each one imports, inside functions too."""
    return {name: set(_imported(path, found, top)) - {name} for name, path in found.items()}


def _imported(path: Path, found: dict[str, Path], top: str) -> Iterator[str]:
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == top:
                # The end may be the name of a function.
                while rest not in found:
                    rest = rest.rpartition(".")[0]
                yield rest


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, but for what is said to type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _nodes(node)


def _folder(name: str, path: Path, top: str) -> str:
    return (name if path.name == "__init__.py" else name.rpartition(".")[0]) or top


def rooms(package: Path) -> dict[Room, set[Room]]:
    """The rooms, and which of them each one imports."""
    found = modules(package)
    graph = imports(found, package.name)
    below = {name: _reached(graph, name) for name in graph}
    order = sorted(graph, key=lambda name: (len(below[name]), name))
    # Two modules that import each other are one.
    place = {name: min([name, *(x for x in below[name] if name in below[x])]) for name in order}
    folders = {name: _folder(name, found[name], package.name) for name in order}
    for folder in dict.fromkeys(folders.values()):
        pieces: list[str] = []
        for name in (name for name in order if folders[name] == folder):
            for piece in pieces:
                joined = place | {x: piece for x in order if place[x] == place[name]}
                if _acyclic(_between(graph, joined)):
                    place = joined
                    break
            else:
                pieces.append(place[name])
    made: dict[str, Room] = {}
    for piece in sorted(set(place.values())):
        names = sorted(name for name in order if place[name] == piece)
        made[piece] = Room(folders[names[0]], tuple(names))
    between = _between(graph, place)
    # The folder of the backends has nothing in it but folders.
    empty = {piece for piece, room in made.items() if not between[piece] and room.modules == (room.folder,)}
    return {made[a]: {made[b] for b in between[a]} for a in between if a not in empty}


def _reached(graph: Graph, start: str) -> set[str]:
    """Everything that a module imports by however many steps."""
    found: set[str] = set()
    ahead = [start]
    while ahead:
        new = graph[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def _between(graph: Graph, place: dict[str, str]) -> Graph:
    """Which pieces import which, where ``place`` tells the piece of each module."""
    result: Graph = {piece: set() for piece in place.values()}
    for name, others in graph.items():
        result[place[name]] |= {place[other] for other in others} - {place[name]}
    return result


def downwards(graph: dict[Any, set[Any]]) -> list[Any]:
    """All nodes, each before those that it imports. Nodes of a circle are missing."""
    importers = dict.fromkeys(graph, 0)
    for other in itertools.chain.from_iterable(graph.values()):
        importers[other] += 1
    order = [node for node, count in importers.items() if not count]
    for node in order:
        for other in sorted(graph[node]):
            importers[other] -= 1
            if not importers[other]:
                order.append(other)
    return order


def _acyclic(graph: Graph) -> bool:
    return len(downwards(graph)) == len(graph)


def reduced(graph: dict[Room, set[Room]]) -> dict[Room, set[Room]]:
    """Without what a longer way says too."""
    below: dict[Room, set[Room]] = {}
    for node in reversed(downwards(graph)):
        below[node] = set().union(*(below[other] | {other} for other in graph[node]))
    return {node: {x for x in others if not any(x in below[y] for y in others)} for node, others in graph.items()}
