"""``python -m benchmarks``: run the measures, print tables, write JSON."""

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks import import_time, large, machine, processes, saved, small

MEASURES = {"import": import_time, "small": small, "memory": saved, "large": large}
DEFAULT_JSON = processes.ROOT / "benchmarks" / "results" / "latest.json"


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    results: dict[str, object] = {"machine": machine.describe(), "quick": options.quick, "cores": options.cores}
    print(machine.report(machine.describe()))
    failed = False
    for name in options.only:
        start = time.perf_counter()
        try:
            result = MEASURES[name].collect(options.quick, options.cores)
        except processes.Failed as error:
            # One measure that fails must not cost the figures of the others.
            print(f"\n## {name}\n\nfailed: {error}", file=sys.stderr)
            failed = True
            continue
        results[name] = result
        print(f"\n## {name} ({time.perf_counter() - start:.0f} s)\n\n{MEASURES[name].report(result)}", flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten to {options.json}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", type=_names, default=list(MEASURES), metavar="A,B", help=f"of {','.join(MEASURES)}; default: all"
    )
    parser.add_argument("--json", type=Path, default=DEFAULT_JSON, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and a smaller batch: does it run at all?")
    parser.add_argument("--cores", type=int, metavar="N", help="use N cores for the big batch; default: all")
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
