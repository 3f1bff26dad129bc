"""The sample project passes, and docs/pytest.md shows what happens there."""

import re
import shutil
import sys
import tomllib

import pytest
from plugged import PLUGIN, ROOT

from seqloss.testing.plugin import choice

PAGE = (ROOT / "docs" / "pytest.md").read_text(encoding="utf-8")


def words(text):
    """A text without its line breaks."""
    return " ".join(text.split())


@pytest.fixture
def project(pytester, monkeypatch):
    """Run pytest in a copy of the sample project."""
    folder = pytester.path / "project"
    shutil.copytree(ROOT / "tests" / "sample_project", folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    monkeypatch.chdir(folder)

    def session(*arguments):
        return pytester.run(sys.executable, "-m", "pytest", *PLUGIN, *arguments)

    session.golden = folder / "tests" / "golden"
    return session


def test_the_sample_project_passes_as_shown(project, framework_name):
    """With NumPy alone, and with JAX where that is tested."""
    jax = framework_name == "jax"
    result = project("-v", "--seqloss-backends", "numpy,jax" if jax else "numpy")
    assert result.ret == pytest.ExitCode.OK
    shown = re.findall(r"^tests/.* PASSED$", PAGE, re.MULTILINE)
    assert len(shown) == 6
    happened = [re.sub(r" PASSED .*", " PASSED", line) for line in result.outlines if " PASSED " in line]
    assert happened == [line for line in shown if jax or "[jax" not in line]


def test_a_missing_recording_looks_as_shown(project):
    shutil.rmtree(project.golden)
    result = project("--seqloss-backends", "numpy")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    failure = "\n".join(line for line in result.outlines if line.startswith("E "))
    assert words(failure).replace(str(project.golden.parents[1]), "...") in words(PAGE)
    result = project("--seqloss-golden-update", "--seqloss-backends", "numpy")
    listed = result.outlines[result.outlines.index("=" * 29 + " golden files written " + "=" * 29) :][:2]
    assert "\n".join(listed).replace(str(project.golden.parents[1]), "...") in PAGE


def test_a_missing_framework_looks_as_shown(pytester, run, only):
    only("numpy")
    (line,) = [line for line in run("--seqloss-backends", "numpy,torch").errlines if line]
    assert words(line) in words(PAGE)


def test_the_page_names_everything(pytester, run):
    shown = "".join(run(option).stdout.str() for option in ("--help", "--fixtures", "--markers"))
    names = set(re.findall(r"--seqloss-[a-z-]+|\bseqloss_[a-z]+", shown))
    assert {"--seqloss-backends", "seqloss_golden", "seqloss_modes"} <= names
    assert {name for name in names if name not in PAGE} == set()


def test_the_oldest_pytest_is_the_same_everywhere():
    oldest = ".".join(map(str, choice.OLDEST_PYTEST))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert extras["pytest"] == [f"pytest>={oldest}"]
    assert f"pytest {oldest} and newer" in words(PAGE)
