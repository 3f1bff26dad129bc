"""How many small faults the tests notice: ``nox -s "mutants(torch)" -- --minutes 60``.

Faults are drawn at random from the sources. Each is put into a copy of the checkout, where the tests that run through
its line are run, the quickest first, until one fails. What is known is kept in a folder, so that a run goes on where
the last one stopped, and a fault that one framework has noticed is not tried in another. ``--full`` asks the full
product about the faults that the default run of the framework did not notice. A fault that nothing has noticed needs a
test, or a line with its reason in CONTRIBUTING.md.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mutations

ROOT = Path(__file__).parents[2]
DRAWN_FROM = ("core", "losses", "backends", "weighted", "legacy.py", "sampling.py", "masks.py")
FRAMEWORKS = ("numpy", "torch", "tensorflow", "jax")
COPIED = ("seqloss", "tests", "examples", "docs", "benchmarks", "pyproject.toml", "README.md", "CONTRIBUTING.md")
# From so many seconds of tests on, two processes are worth their start.
LONG = 60


def sources():
    for name in DRAWN_FROM:
        path = ROOT / "seqloss" / name
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def drawn(count, seed):
    """A choice of all mutations that stays the same as long as the sources do, as dicts."""
    every = []
    for path in sources():
        source = path.read_text()
        name = str(path.relative_to(ROOT))
        for mutation in mutations.of_source(source):
            text = (
                f"{name}:{mutation.line}: {source.encode()[mutation.start : mutation.end].decode()} -> {mutation.text}"
            )
            identity = hashlib.sha256(f"{text}{mutation.start}{source}".encode()).hexdigest()[:12]
            every.append({"id": identity, "path": name, "says": text, **mutation._asdict()})
    print(f"{len(every)} mutations, of which {count} are drawn")
    return random.Random(seed).sample(every, count)


def concerns(mutant, framework):
    """Whether a framework can notice a fault: all in the core, one in its own backend."""
    parts = Path(mutant["path"]).parts
    own = parts[2] if parts[1] == "backends" and parts[2] in FRAMEWORKS else framework
    # PyTorch and TensorFlow hand their arrays to NumPy's kernels.
    return framework == own or (own == "numpy" and framework in ("torch", "tensorflow"))


def run_pytest(where, framework, arguments, **variables):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "selected"]
    # Folders of its own: other sessions of pytest clear away those of before.
    with tempfile.TemporaryDirectory() as folders:
        own = {"PYTHONPATH": f"{where}/tests/mutants", "PYTEST_DEBUG_TEMPROOT": folders}
        return subprocess.run(
            [*command, "--backends", framework, *arguments],
            cwd=where,
            env={**os.environ, **variables, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def cover(state, framework):
    """From (path, line) to the tests that run it; and the seconds of each test."""
    folder = state / f"cover-{framework}"
    if not folder.exists():
        folder.mkdir()
        done = run_pytest(ROOT, framework, ["-n", "auto", "tests"], MUTANTS_COVER=str(folder))
        if done.returncode:
            shutil.rmtree(folder)
            sys.exit(f"the tests fail without any fault:\n{done.stdout[-3000:]}")
    seconds, lines = {}, {}
    for path in folder.iterdir():
        found = json.loads(path.read_text())
        seconds.update(found["seconds"])
        for name, contexts in found["lines"].items():
            for line, tests in contexts.items():
                lines.setdefault((name, int(line)), set()).update(tests)
    return lines, seconds


def tried(mutant, framework, where, lines, seconds, full):
    """What became of a fault: noticed by the tests of a framework, or not."""
    tests = lines.get((mutant["path"], mutant["line"]), set()) - {""}
    # Lines that run when a module is imported may be behind any test. And a compiler reads lines without running them:
    # after the tests that run a line come the others of the same functions, which may do so under a compiler.
    functions = {name.partition("[")[0] for name in tests or seconds}
    is_read = framework != "numpy" or not tests
    others = (name for name in seconds if is_read and name.partition("[")[0] in functions and name not in tests)
    chosen = [*sorted(tests, key=seconds.get), *sorted(others, key=seconds.get)]
    only = where / "only.json"
    only.write_text(json.dumps([*functions] if full else chosen))
    target = where / mutant["path"]
    source = (ROOT / mutant["path"]).read_text()
    fields = (mutant[name] for name in mutations.Mutation._fields)
    target.write_text(mutations.Mutation(*fields).apply(source))
    start = time.monotonic()
    files = sorted({name.partition("::")[0] for name in functions})
    workers = ["-n", "2"] if full or sum(map(seconds.get, chosen)) > LONG else []
    try:
        done = run_pytest(where, framework, ["-x", *workers, *["--full"][:full], *files], MUTANTS_ONLY=str(only))
    finally:
        target.write_text(source)
    return {
        "id": mutant["id"],
        "framework": framework,
        "full": full,
        "noticed": done.returncode != 0,
        "by": failed(done.stdout),
        "of": len(chosen),
        "covered": bool(tests),
        "seconds": round(time.monotonic() - start, 1),
    }


def failed(output):
    """The test that failed, or how the run ended."""
    lines = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0] if lines else (output.strip().splitlines() or ["nothing"])[-1]


def verdicts(state):
    path = state / "verdicts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def report(state, mutants):
    """How many are noticed, and the text of each that is not."""
    known = {}
    for verdict in verdicts(state):
        known.setdefault(verdict["id"], []).append(verdict)
    own = [mutant for mutant in mutants if mutant["id"] in known]
    default, full = (
        [mutant for mutant in own if any(v["noticed"] and v["full"] <= also for v in known[mutant["id"]])]
        for also in (False, True)
    )
    print(f"of {len(own)} faults {len(default)} are noticed, {len(full)} by the full product", end="")
    print(f"; {len(mutants) - len(own)} are not tried")
    for mutant in own:
        if mutant not in default:
            asked = [v for v in known[mutant["id"]] if not v["noticed"]]
            where = ", ".join(f"{v['framework']}{' in full' * v['full']} ({v['of']} tests)" for v in asked)
            print(f"  {mutant['id']} {mutant['says']}\n      not in {where}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("framework", choices=[*FRAMEWORKS, "report"])
    parser.add_argument("--state", type=Path, required=True, help="the folder in which what is known is kept")
    parser.add_argument("--count", type=int, default=300, help="how many faults (300)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (0)")
    parser.add_argument("--minutes", type=float, default=60, help="no fault is tried after so many (60)")
    parser.add_argument("--full", action="store_true", help="try what is not noticed with the full product")
    parser.add_argument("--without", default="", metavar="ID,ID", help="faults with a reason: not to be tried")
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    mutants = drawn(options.count, options.seed)
    if options.framework != "report":
        end = time.monotonic() + 60 * options.minutes
        without = options.without.split(",")
        left = [mutant for mutant in mutants if mutant["id"] not in without]
        work(options.state, options.framework, left, end, options.full)
    report(options.state, mutants)


def work(state, framework, mutants, end, full):
    lines, seconds = cover(state, framework)
    known = verdicts(state)
    settled = {v["id"] for v in known if v["noticed"] or (v["framework"], v["full"]) == (framework, full)}
    if full:
        settled |= {mutant["id"] for mutant in mutants} - {v["id"] for v in known if v["framework"] == framework}
    where = state / f"copy-{framework}"
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir()
    for name in COPIED:
        path = ROOT / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, where / name)
    for mutant in mutants:
        if time.monotonic() > end:
            break
        # What NumPy never runs is not read by a compiler either.
        is_run = framework != "numpy" or (mutant["path"], mutant["line"]) in lines
        if mutant["id"] not in settled and concerns(mutant, framework) and is_run:
            verdict = tried(mutant, framework, where, lines, seconds, full)
            with (state / "verdicts.jsonl").open("a") as file:
                file.write(json.dumps(verdict) + "\n")
            said = "noticed" if verdict["noticed"] else "NOT NOTICED"
            print(f"{said} {mutant['says']} [{verdict['by'][:90]}]", flush=True)


if __name__ == "__main__":
    main()
