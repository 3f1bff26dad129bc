"""What the pages say of the repository: files that exist, figures that were measured, the picture of the rooms."""

import ast
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from seqloss.backends import base
from seqloss.core.protocol import Backend

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# --- files

# Where a path may start, beside the root. A name by itself may be that of any file.
BASES = ("", "seqloss", "seqloss/core", "seqloss/testing")
ENDINGS = ("/", ".py", ".md", ".toml", ".txt", ".json", ".npz", ".svg", ".html")
# Files of a reader's project, not of this one.
ELSEWHERE = {"NAME.npz", "NAME.json", "golden/batch.npz", "golden/batch.json"}


def paths(text):
    """The paths that stand in backticks. A role, as in {doc}`name`, is no path, and Sphinx checks it."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for found in re.findall(r"(?<![`}])`([^`\n]+)`(?!`)", text):
        path = found.partition("::")[0]
        if re.fullmatch(r"[\w./-]+", path) and path.endswith(ENDINGS):
            yield path


def exists(path):
    if any((ROOT / base / path).exists() for base in BASES):
        return True
    folders = (ROOT / name for name in ("seqloss", "tests", "docs", "examples", "benchmarks"))
    return "/" not in path and any(any(folder.rglob(path)) for folder in folders)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_path_on_a_page_exists(page):
    found = set(paths(page.read_text(encoding="utf-8"))) - ELSEWHERE
    assert [path for path in sorted(found) if not exists(path)] == []


def test_the_test_of_paths_can_fail():
    text = "`core/checks.py`, `seqloss/attic/`, `ops.py`, `tests/test_pages.py::name`, {doc}`a.md`, `x.y`, `1/2`"
    found = list(paths(text))
    assert found == ["core/checks.py", "seqloss/attic/", "ops.py", "tests/test_pages.py"]
    assert [path for path in found if not exists(path)] == ["core/checks.py", "seqloss/attic/"]


# --- figures


def measured(name):
    return json.loads((ROOT / "docs" / "measured" / f"{name}.json").read_text(encoding="utf-8"))


def best(rows, framework, ours, **others):
    """The best time of seqloss or of its peer, in seconds."""
    wanted = {"framework": framework, "ours": ours, **others}
    return next(row["best"] for row in rows if wanted.items() <= row.items())


def ratio(rows, framework, **others):
    return f"{best(rows, framework, True, **others) / best(rows, framework, False, **others):.2f}"


def sentences():
    """What pages say in their own words of figures that are in a table too."""
    large, importing = measured("large")["large"]["rows"], measured("performance")["import"]
    both = {"mode": "eager", "kernel": "C", "what": "value and gradient"}
    rows = [row for row in measured("ratios")["ratios"]["rows"] if both.items() <= row.items()]
    eager = {row["framework"]: f"{row['ratios'][-1]:.2f}" for row in rows}
    of_three = "takes {torch} of the time of PyTorch's own loss, {tensorflow} of TensorFlow's and {numpy} of NumPy"
    yield "README.md", of_three.format(**eager)

    page = "docs/performance.md"
    took, limit = importing["over_bare_ms"]["best"], importing["limit_ms"]
    yield page, f"takes {took:.0f} ms more than bare Python. The goal was at most {limit} ms."
    compiled = [ratio(large, "torch", mode="compile", case=case) for case in ("full", "half masked")]
    yield page, "takes {} of the compiled peer on the big batch, and {} where half of it is masked".format(*compiled)


def test_figures_in_sentences_are_those_of_the_tables():
    text = {page: " ".join((ROOT / page).read_text(encoding="utf-8").split()) for page, _ in sentences()}
    assert [sentence for page, sentence in sentences() if sentence not in text[page]] == []


# --- the worked example of a backend


def test_the_example_has_every_function_of_a_backend():
    source = (ROOT / "docs" / "snippets" / "boxed_backend.py").read_text(encoding="utf-8")
    written = {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    asked = {name for name, function in vars(Backend).items() if name[0] != "_" and callable(function)}
    assert "token_statistics" in asked
    assert asked - written - set(base.ANSWERS) == set()


# --- the site


@pytest.mark.parametrize(
    "html, count",
    [
        ("<p>::::{admonition} NumPy\nprint(1)\n::::</p>", 1),
        ("<p>see {func}<code>f</code></p>", 1),
        ("<p><code>a - b</code>\n: a definition</p>", 1),
        ("<p><code>a - b</code>: no definition</p>", 0),
        ("<pre>:::{note}</pre><p>fine <code>{func}</code></p>", 0),
    ],
)
def test_markup_that_came_out_as_text_is_found(html, count):
    faults = runpy.run_path(str(ROOT / "docs" / "check_pages.py"))["faults"]
    assert len(list(faults(html))) == count


# --- the picture


def test_the_picture_is_drawn_from_the_imports(tmp_path):
    drawn = tmp_path / "drawn.svg"
    command = [sys.executable, "-m", "docs.picture", str(drawn)]
    subprocess.run(command, cwd=ROOT, check=True)
    picture = ROOT / "docs" / "architecture.svg"
    again = "run: python -m docs.picture"
    assert drawn.read_text(encoding="utf-8") == picture.read_text(encoding="utf-8"), again


KIT = ("testing", "commands", "parity")


def test_the_picture_has_every_room_of_the_library():
    package = ROOT / "seqloss"
    modules = [path.relative_to(ROOT) for path in package.rglob("*.py")]
    # A folder of folders, as backends is, is no room.
    folders = {".".join(path.parent.parts) for path in modules if path.name != "__init__.py"}
    rooms = {name.removeprefix("seqloss.") for name in folders}
    rooms = {name for name in rooms if name.partition(".")[0] not in KIT}
    assert {"seqloss", "core", "losses.sampled", "backends.jax"} < rooms
    text = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    assert rooms - set(re.findall(r"<text[^>]*>([^<]+)</text>", text)) == set()
