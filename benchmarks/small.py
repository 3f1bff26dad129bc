"""The small call: what seqloss adds to a loss of a few tokens, on one core."""

from typing import Any

from benchmarks import contenders, machine, processes, side_by_side, tables

SHAPE = [8, 5, 32]
MODES = ("eager", "jit")
LIMIT_RATIO = 2.8
LIMIT_STRUCTURE_US = 10


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    rounds = 50 if quick else 500
    rows: list[Any] = []
    for framework in machine.installed():
        rows += processes.call("small:race", cores=1, framework=framework, rounds=rounds)
    result: dict[str, Any] = {"shape": SHAPE, "cores": 1, "limit_ratio_torch": LIMIT_RATIO, "rows": rows}
    if "torch" in machine.installed():
        result["limit_structure_us"] = LIMIT_STRUCTURE_US
        try:
            result["stages"] = processes.call("split:stages", cores=1, shape=SHAPE, rounds=rounds)
        except processes.Failed as error:
            # The cuts are insides of the library: when they move, the times above still hold.
            result["no_stages"] = str(error).splitlines()[-1]
    return result


def race(framework: str, rounds: int) -> Any:
    cases = {"small": side_by_side.Case(contenders.make_batch(SHAPE))}
    return side_by_side.race(framework, cases, MODES, rounds, small=True)


def report(result: dict[str, Any]) -> str:
    parts = [
        f"Logits {result['shape']}, value and gradient, {result['cores']} core",
        side_by_side.report(result["rows"], "us"),
    ]
    if "stages" in result:
        best, median = result["stages"]["best"], result["stages"]["median"]
        rows = [(name, tables.scaled(best[name], "us"), tables.scaled(median[name], "us")) for name in best]
        parts += [
            f"The goal on torch is at most {result['limit_ratio_torch']} times the peer.",
            f"The torch call by stages; the goal for the first is at most {result['limit_structure_us']} us:",
            tables.render(("stage", "best us", "median us"), rows),
        ]
    if "no_stages" in result:
        parts.append(f"No stages of the torch call: {result['no_stages']}")
    return "\n\n".join(parts)
