"""The loss of a linear layer without its logits: time in units of three matrix products, and the memory it takes."""

from typing import Any

import numpy as np

from benchmarks import layers, machine, peak, processes, tables, timing

# [batch, time, features, classes].
SHAPE = [8, 256, 512, 32_000]
QUICK_SHAPE = [8, 128, 64, 32_000]
CHUNKS = [128, 256, 512, 2048]
QUICK_CHUNKS = [32, 128, 512, 1024]
_APART = 1e-3
_CELLS = ("framework", "mode", "contender", "median ms", "best / products", "median / products", "MiB", "of the logits")


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    shape, chunks = (QUICK_SHAPE, QUICK_CHUNKS) if quick else (SHAPE, CHUNKS)
    rounds = 2 if quick else 3
    rows: list[Any] = []
    by_chunk: list[Any] = []
    for framework in machine.installed():
        how: dict[str, Any] = {"framework": framework, "shape": shape}
        rows += processes.call("linear:race", cores, rounds=rounds, **how)
        by_chunk += processes.call("linear:race_of_chunks", cores, rounds=rounds, chunks=chunks, **how)
    for framework in machine.installed():
        mine = [row for row in (*rows, *by_chunk) if row["framework"] == framework and "best" in row]
        mine = [row for row in mine if row["name"] != layers.PRODUCTS]
        who = [[row[key] for key in ("name", "mode", "chunk")] for row in mine]
        found = processes.call("linear:extra", cores, peak.UNPOOLED, framework=framework, shape=shape, who=who)
        for row, each in zip(mine, found, strict=True):
            row["extra"] = each
    return {"shape": shape, "cores": cores or machine.cores(), "rows": rows, "by_chunk": by_chunk}


def race(framework: str, shape: list[int], rounds: int) -> Any:
    """All contenders in turn."""
    return _race(framework, layers.load(framework).CONTENDERS, shape, rounds)


def race_of_chunks(framework: str, shape: list[int], rounds: int, chunks: list[int]) -> Any:
    """Ours with chunks of several sizes, beside the three products."""
    mode = layers.load(framework).MAIN
    sized = [layers.chosen(framework, layers.OURS, mode, size) for size in chunks]
    return _race(framework, [layers.chosen(framework, layers.PRODUCTS, mode, None), *sized], shape, rounds)


def _race(framework: str, contenders: Any, shape: list[int], rounds: int) -> Any:
    module = layers.load(framework)
    placed = module.place(layers.make_batch(shape))
    rows: dict[layers.Contender, dict[str, Any]] = {}
    calls: dict[layers.Contender, timing.Call] = {}
    reference: Any = None
    for each in contenders:
        rows[each] = {"framework": framework, "name": each.name, "mode": each.mode, "chunk": each.chunk}
        call = each.setup(*placed)
        try:
            result = call()
        except ModuleNotFoundError as error:
            rows[each]["missing"] = error.name
            continue
        if each.name != layers.PRODUCTS:
            result = [np.array(module.to_numpy(x)) for x in result]
            reference = result if reference is None else reference
            _must_agree(each, result, reference)
        del result
        calls[each] = call
    for each, times in timing.interleaved(calls, rounds).items():
        rows[each] |= {**times._asdict(), "threads": module.threads()}
    return list(rows.values())


def _must_agree(each: layers.Contender, result: Any, reference: Any) -> None:
    """Timing two different computations would say nothing."""
    for got, expected in zip(result, reference, strict=True):
        if not np.allclose(got, expected, rtol=_APART, atol=_APART * np.abs(expected).max()):
            raise ArithmeticError(f"{each.name} ({each.mode}) computes something else than the first contender")


def extra(framework: str, shape: list[int], who: list[list[Any]]) -> list[int | None]:
    """Bytes of the peak of a call beside its arguments and the gradients it returns; None if unknown."""
    module = layers.load(framework)
    placed, few = (module.place(layers.make_batch(each)) for each in (shape, [1, 8, *shape[2:]]))
    hidden, kernel, _ = layers.make_batch(shape)
    returned = hidden.nbytes + kernel.nbytes
    del hidden, kernel
    found = []
    for name, mode, chunk in who:
        each = layers.chosen(framework, name, mode, chunk)
        growth = peak.growth(each.setup(*placed), each.setup(*few))
        module.forget(placed)
        found.append(None if growth is None else growth - returned)
    return found


def report(result: dict[str, Any]) -> str:
    batch, time, features, classes = result["shape"]
    rows = result["rows"]
    counts = {row["framework"]: row["threads"] for row in rows if "threads" in row}
    threads = ", ".join(f"{name} {count}" for name, count in counts.items())
    title = (
        f"{batch * time:,} tokens of {features} features, {classes:,} classes, float32; loss and gradients of hidden "
        f"and kernel; {result['cores']} cores; threads: {threads}. Logits would be {_logits(result) / 2**20:.0f} MiB."
    )
    of_chunks = [row for row in result["by_chunk"] if row["name"] != layers.PRODUCTS]
    parts = [title, tables.render(_CELLS, [_line(row, rows, result) for row in rows])]
    lines = [_line({**row, "name": row["chunk"]}, result["by_chunk"], result) for row in of_chunks]
    return "\n\n".join([*parts, "By the size of a chunk:", tables.render((*_CELLS[:2], "chunk", *_CELLS[3:]), lines)])


def _logits(result: dict[str, Any]) -> int:
    """Bytes of the logits that ours never stores."""
    batch, time, _, classes = result["shape"]
    return int(4 * batch * time * classes)


def in_products(row: dict[str, Any], rows: list[Any], which: str) -> float:
    """A time in units of three products of the same mode."""
    key = ("framework", "mode")
    unit = next(r for r in rows if r["name"] == layers.PRODUCTS and all(r[k] == row[k] for k in key))
    return float(row[which] / unit[which])


def _line(row: dict[str, Any], rows: list[Any], result: dict[str, Any]) -> list[str]:
    names = [row["framework"], row["mode"], str(row["name"])]
    if "missing" in row:
        return [*names, "-", f"needs {row['missing']}", "", "", ""]
    ratios = [f"{in_products(row, rows, which):.2f}" for which in ("best", "median")]
    memory = ["", ""]
    if "extra" in row:
        known = row["extra"] is not None
        memory = [f"{row['extra'] / 2**20:.0f}", f"{row['extra'] / _logits(result):.2f}"] if known else ["unknown", ""]
    return [*names, tables.scaled(row["median"], "ms"), *ratios, *memory]
