"""One table for all sizes: how long seqloss takes in units of what one would use instead, with and without C."""

import statistics
from typing import Any

from benchmarks import contenders, large, machine, processes, tables, timing

SHAPES = [[8, 5, 32], [8, 64, 1024], [8, 64, 4096], [32, 64, 32_000], [8, 64, 262_144]]
QUICK_SHAPES = SHAPES[:2]
BOTH, EXACT, FORWARD = "value and gradient", "the same, exact", "forward only"
# What SEQLOSS_NATIVE asks for. JAX never calls these kernels.
KERNELS = {"C": "1", "NumPy": "0"}


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    shapes, most = (QUICK_SHAPES, 5) if quick else (SHAPES, 200)
    rows: list[Any] = []
    for framework in machine.installed():
        for kernel, wanted in KERNELS.items() if framework != "jax" else [("XLA", "")]:
            found = processes.call(
                "ratios:races",
                cores,
                {"SEQLOSS_NATIVE": wanted},
                framework=framework,
                shapes=shapes,
                most=most,
                compiled=kernel != "NumPy",
            )
            rows += [{**row, "kernel": kernel if row["mode"] == "eager" else "compiler"} for row in found]
    return {"shapes": shapes, "cores": cores or machine.cores(), "rows": rows}


def races(framework: str, shapes: list[list[int]], most: int, compiled: bool) -> Any:
    """Medians of ratios within a round, for each mode and question and the sizes in order."""
    module, rows = contenders.load(framework), []
    ours: dict[str, Any]
    for mode in module.MODES:
        if (framework, mode) in large.SKIPPED or not (compiled or mode == "eager"):
            continue
        forward, peer_forward = module.forward(mode)
        peer = next(each for each in module.CONTENDERS if each.mode == mode and not each.ours).setup
        ours = {BOTH: (module.ours(mode), peer), EXACT: (module.ours(mode, exact=True), peer)}
        ours[FORWARD] = forward, peer_forward
        found: dict[str, list[Any]] = {what: [] for what in ours}
        for shape in shapes:
            placed = module.place(contenders.make_batch(shape))
            calls = {(what, i): each(*placed) for what, pair in ours.items() for i, each in enumerate(pair)}
            samples = timing.samples(calls, _rounds(shape, most))
            for what in ours:
                pairs = zip(samples[what, 0], samples[what, 1], strict=True)
                found[what].append(statistics.median(one / other for one, other in pairs))
        rows += [{"framework": framework, "mode": mode, "what": what, "ratios": few} for what, few in found.items()]
    return rows


def _rounds(shape: list[int], most: int) -> int:
    """Many where a call is short, and few where one takes a second."""
    logits = shape[0] * shape[1] * shape[2]
    return max(5, min(most, 200_000_000 // logits))


def report(result: dict[str, Any]) -> str:
    sizes = [f"{b * t} x {c}" for b, t, c in result["shapes"]]
    lines = [
        (row["framework"], row["mode"], row["kernel"], row["what"], *(f"{x:.2f}" for x in row["ratios"]))
        for row in result["rows"]
    ]
    title = f"Time of seqloss / time of the peer, tokens x classes, {result['cores']} cores; below 1 seqloss is faster:"
    return f"{title}\n\n{tables.render(('framework', 'mode', 'kernel', 'what', *sizes), lines)}"
