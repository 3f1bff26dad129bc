"""Names of frameworks on command lines, and how to install what is missing."""

import argparse
import re
import tomllib
from pathlib import Path

import pytest

from seqloss.commands import backends
from seqloss.core import dispatch, extras

ROOT = Path(__file__).parents[1]
TEXTS = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "seqloss").rglob("*.py"))]


@pytest.mark.parametrize("name, real", [("tf", "tensorflow"), ("pytorch", "torch"), ("numpy", "numpy")])
def test_frameworks_have_the_names_that_people_use(monkeypatch, name, real):
    monkeypatch.setattr(backends, "is_installed", lambda name: True)
    choice = backends.select(argparse.Namespace(backends=f"{name},{real}", register=[]))
    assert choice.chosen == [real]


def test_what_is_registered_under_an_alias_is_that(monkeypatch):
    monkeypatch.setitem(dispatch._adapters, "tf", "some.adapter")
    assert [dispatch.framework_called(name) for name in ("tf", "pytorch", "cupy")] == ["tf", "torch", "cupy"]


def test_what_is_missing_is_installed_as_an_extra_of_a_checkout():
    assert extras.command("torch", "jax") == 'python -m pip install ".[torch,jax]" -c constraints.txt'
    assert extras.add("numpy") == "add it with: python -m pip install numpy"
    assert extras.add("cli").endswith('".[cli]" -c constraints.txt (in a checkout of seqloss)')
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras.EXTRAS) == project["optional-dependencies"].keys() - {"all"}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_says_that_an_index_has_seqloss(path):
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"pip install(?: +[\w\"'\[\].,=>-]+)*? +[\"']?seqloss\b", text) == []
    # And extras are installed with the versions that are tested.
    lines = [line for line in text.splitlines() if "pip install" in line and ".[" in line]
    assert [line for line in lines if "-c constraints.txt" not in line] == []
