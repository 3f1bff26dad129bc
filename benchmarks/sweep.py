"""How time and memory grow: with the classes, and with the tokens."""

from typing import Any

from benchmarks import contenders, large, machine, peak, processes, side_by_side, tables

CLASSES, TOKENS_BESIDE = [2**10, 2**12, 2**14, 2**16, 2**18], 512
TOKENS, CLASSES_BESIDE = [128, 512, 2048, 8192], 32_000
QUICK = {"classes": [2**10, 2**12], "beside classes": 64, "tokens": [64, 128], "beside tokens": 4000}
SEQUENCES = 8


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "classes": CLASSES,
        "beside classes": TOKENS_BESIDE,
        "tokens": TOKENS,
        "beside tokens": CLASSES_BESIDE,
    }
    sizes = QUICK if quick else sizes
    rounds = 2 if quick else 7
    by_classes, by_tokens, memory = [], [], []
    for framework in machine.installed():
        both = {"framework": framework, "rounds": rounds}
        shapes = [_shape(sizes["beside classes"], size) for size in sizes["classes"]]
        by_classes += processes.call("sweep:races", cores, shapes=shapes, **both)
        shapes = [_shape(size, sizes["beside tokens"]) for size in sizes["tokens"]]
        by_tokens += processes.call("sweep:races", cores, shapes=shapes, **both)
    shapes = [_shape(tokens, sizes["beside tokens"]) for tokens in sizes["tokens"]]
    for row in by_tokens:
        if row["tokens"] == sizes["tokens"][0] and "best" in row:
            peaks = peak.of(row, shapes, cores)
            memory += [
                {**_who(row), "tokens": tokens, "peak": units, "logits_bytes": 4 * tokens * sizes["beside tokens"]}
                for tokens, units in zip(sizes["tokens"], peaks, strict=True)
            ]
    return {"sizes": sizes, "by_classes": by_classes, "by_tokens": by_tokens, "memory": memory}


def races(framework: str, shapes: list[list[int]], rounds: int) -> Any:
    """One race after the other, because the largest batches would not fit into memory together."""
    rows = []
    for shape in shapes:
        cases = {"full": side_by_side.Case(contenders.make_batch(shape))}
        sizes = {"tokens": shape[0] * shape[1], "classes": shape[2]}
        rows += [{**row, **sizes} for row in side_by_side.race(framework, cases, large.modes(framework), rounds)]
    return rows


def report(result: dict[str, Any]) -> str:
    sizes = result["sizes"]
    return "\n\n".join(
        [
            f"Time in ms by the best of several; {sizes['beside classes']} tokens, classes:",
            _table(result["by_classes"], "classes", "best", 1e3),
            f"{sizes['beside tokens']} classes, tokens:",
            _table(result["by_tokens"], "tokens", "best", 1e3),
            "Peak memory beside the arguments, gradient included, in units of the logits:",
            _table(result["memory"], "tokens", "peak", 1.0),
        ]
    )


def _shape(tokens: int, classes: int) -> list[int]:
    return [SEQUENCES, tokens // SEQUENCES, classes]


def _who(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("framework", "mode", "name", "ours")}


def _table(rows: list[Any], size: str, figure: str, factor: float) -> str:
    columns = list(dict.fromkeys(row[size] for row in rows))
    lines: dict[tuple[str, ...], dict[int, str]] = {}
    for row in rows:
        value = row.get(figure)
        text = "-" if value is None else f"{value * factor:.4g}"
        lines.setdefault((row["framework"], row["mode"], row["name"]), {})[row[size]] = text
    table = [(*who, *(cells[column] for column in columns)) for who, cells in lines.items()]
    return tables.render(("framework", "mode", "contender", *map(str, columns)), table)
