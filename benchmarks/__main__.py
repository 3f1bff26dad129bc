"""``python -m benchmarks``: run the measures, print tables, write JSON and draw pictures."""

import argparse
import importlib
import json
import re
import sys
import time
from pathlib import Path

from benchmarks import machine, plots, processes
from benchmarks.pages import MODULES

DEFAULT_JSON = processes.ROOT / "benchmarks" / "results" / "latest.json"
# They take minutes and say nothing of the machine.
ON_DEMAND = ("errors", "rate", "verdicts", "curves", "linear")


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    results: dict[str, object] = {"machine": machine.describe(), "quick": options.quick, "cores": options.cores}
    print(machine.report(machine.describe()))
    failed = False
    for name in options.only:
        start = time.perf_counter()
        measure = importlib.import_module(MODULES[name])
        try:
            result = measure.collect(options.quick, options.cores)
        except processes.Failed as error:
            # One measure that fails must not cost the figures of the others.
            print(f"\n## {name}\n\nfailed: {error}", file=sys.stderr)
            failed = True
            continue
        results[name] = result
        print(f"\n## {name} ({time.perf_counter() - start:.0f} s)\n\n{measure.report(result)}", flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(_text(results))
    print(f"\nwritten to {options.json}")
    try:
        for picture in plots.draw(results, options.json.parent, f"{options.json.stem}-") if options.pictures else ():
            print(f"drawn in {picture}")
    except ModuleNotFoundError as error:
        print(f"no pictures: {error.name} is not installed")
    return 1 if failed else 0


def _text(results: dict[str, object]) -> str:
    """JSON with a line for each list of numbers, not for each number."""
    text = json.dumps(results, indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    default = [name for name in MODULES if name not in ON_DEMAND]
    parser.add_argument(
        "--only",
        type=_names,
        default=default,
        metavar="A,B",
        help=f"of {','.join(MODULES)}; default: all but {' and '.join(ON_DEMAND)}",
    )
    parser.add_argument("--json", type=Path, default=DEFAULT_JSON, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--no-pictures", dest="pictures", action="store_false", help="draw none beside the JSON")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller batches: does it run at all?")
    parser.add_argument("--cores", type=int, metavar="N", help="use N cores for the big batches; default: all")
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no measure {', '.join(unknown)}; there are {', '.join(MODULES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
