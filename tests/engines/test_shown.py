"""The pages with examples of several frameworks: what they show is run, where all frameworks are.

``shown.py`` is the program; it runs in processes of its own. The documentation is built where NumPy is alone, so there
these blocks are text.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
# The number of rows says that the tables were found.
PAGES = {"cheat-sheet": 58, "recipes-torch": 0, "recipes-keras": 0, "recipes-jax": 0, "comparison": 0, "index": 0}


def run(page, folder):
    settings = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    settings |= {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    out = folder / "found.json"
    # As in pyproject.toml: torch.compile warns of itself.
    known = "ignore:<class 'torch.autograd.function.Function'> should not be instantiated:DeprecationWarning"
    command = [sys.executable, "-W", "error", "-W", known, str(HERE / "shown.py"), str(page), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_shows_is_so(name, tmp_path):
    found = run(DOCS / f"{name}.md", tmp_path)
    assert found["failures"] == []
    assert found["rows"] == PAGES[name]
    assert found["examples"] >= 10


def test_every_page_with_such_blocks_is_run():
    shown = {path.stem for path in DOCS.rglob("*.md") if "```pycon" in path.read_text(encoding="utf-8")}
    assert shown == set(PAGES)


def test_what_is_not_so_is_found(tmp_path):
    page = tmp_path / "page.md"
    head = "```pycon\n>>> import torch\n>>> z = torch.ones(2).requires_grad_()\n>>> 1 + 1\n3\n```\n"
    rows = [("z", "z + 0"), ("z", "2 * z"), ("z + 1", "z.detach() + 1"), ("z", "z[None]"), ("z", "a word")]
    lines = "".join(f"| what | `{theirs}` | `{ours}` |\n" for theirs, ours in rows)
    page.write_text(f"{head}\n| argument | there | here |\n|---|---|---|\n{lines}\n\ntext\n")
    found = run(page, tmp_path)
    assert (found["examples"], found["rows"]) == (3, 5)
    assert len(found["failures"]) == 5  # the example, and all rows but the first
