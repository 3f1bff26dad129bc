"""What the plugin leaves alone, and how it is found."""

import re

import pytest
from plugged import PLUGIN, ROOT

HEAVY = ("numpy", "torch", "tensorflow", "jax", "seqloss.testing.comparison", "seqloss.testing.golden")
LOADED = """
import sys

def test_it({fixture}):
    assert [name for name in {heavy} if name in sys.modules] == []
"""


def test_loading_brings_no_framework_and_no_numpy(pytester):
    pytester.makepyfile(LOADED.format(fixture="", heavy=HEAVY))
    pytester.runpytest_subprocess("-W", "error", *PLUGIN).assert_outcomes(passed=1)


@pytest.mark.parametrize("fixture", ["assert_parity", "seqloss_backend"])
def test_the_loading_test_can_fail(pytester, fixture):
    pytester.makepyfile(LOADED.format(fixture=fixture, heavy=HEAVY))
    result = pytester.runpytest_subprocess("-W", "error", *PLUGIN, "--seqloss-backends", "numpy")
    result.assert_outcomes(failed=1)


@pytest.fixture
def installed(pytester, monkeypatch):
    """An installation with the entry point of pyproject.toml."""
    about = pytester.mkdir("site") / "seqloss-0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: seqloss\nVersion: 0\n")
    (point,) = re.findall(r"entry-points\.pytest11\]\n(.*)\n", (ROOT / "pyproject.toml").read_text())
    (about / "entry_points.txt").write_text(f"[pytest11]\n{point.replace(chr(34), '')}\n")
    (about / "RECORD").write_text("seqloss/__init__.py,,\nseqloss/testing/plugin/__init__.py,,\n")
    monkeypatch.setenv("PYTHONPATH", f"{about.parent}:{ROOT}")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")


def test_the_entry_point_loads_it(pytester, installed):
    pytester.makepyfile("def test(seqloss_backend, assert_parity): assert_parity([1.0], [1.0])")
    result = pytester.runpytest_subprocess("-W", "error", "--seqloss-backends", "numpy")
    result.assert_outcomes(passed=1)


def test_without_it_nothing_of_it_is_there(pytester, installed):
    pytester.makepyfile(
        "import sys\ndef test(): assert not [name for name in sys.modules if name.startswith('seqloss')]"
    )
    pytester.runpytest_subprocess("-W", "error", "-p", "no:seqloss").assert_outcomes(passed=1)
    refused = pytester.runpytest_subprocess("-p", "no:seqloss", "--seqloss-golden-update")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
