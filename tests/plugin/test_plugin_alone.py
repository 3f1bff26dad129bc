"""What the plugin leaves alone, and how it is found."""

import re
import sys

import pytest
from plugged import PLUGIN, ROOT

from seqloss.testing.plugin import choice

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


# What pytest had before 7.0 too, of that which the plugin has any need of.
OLD_NAMES = ("UsageError", "__version__", "fail", "fixture", "hookimpl")
START = """
import sys, types
import pytest

sys.modules["pytest"] = types.SimpleNamespace(**{{name: getattr(pytest, name) for name in {names}}})
import seqloss.testing.plugin

sys.modules["pytest"] = pytest
sys.exit(pytest.main(sys.argv[1:], plugins=[seqloss.testing.plugin]))
"""
USES_ALL = """
def test_it(seqloss_backend, seqloss_run, seqloss_golden, assert_parity):
    y, _ = seqloss_run(lambda x: 2 * x, [seqloss_backend.array([1.0, 2.0])])
    assert_parity(y, seqloss_backend.array([2.0, 4.0]))
    seqloss_golden("it", {"y": y}, {"x": [1.0, 2.0]})
"""


def test_it_needs_no_name_that_an_older_pytest_lacks(pytester):
    """Neither to be loaded nor to be used; the session "plugin" of noxfile.py has the older pytest itself."""
    pytester.makepyfile(test_it=USES_ALL, start=START.format(names=OLD_NAMES))
    arguments = ("-W", "error", "--seqloss-backends", "numpy", "--seqloss-golden-update", "test_it.py")
    result = pytester.run(sys.executable, "start.py", *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["=* golden files written *="])


@pytest.mark.parametrize(
    ("asks", "body"),
    [
        ("seqloss_backend", "pass"),
        ("seqloss_run", "pass"),
        ("seqloss_golden", "pass"),
        ("request", "request.getfixturevalue('seqloss_golden')"),
    ],
)
def test_where_pytest_is_too_old_the_tests_that_use_it_say_so(monkeypatch, pytester, run, asks, body):
    monkeypatch.setattr(choice, "PYTEST", (6, 2))
    pytester.makepyfile(f"def test_it({asks}): {body}\ndef test_other(): pass")
    result = run("--seqloss-backends", "numpy")
    outcomes = result.parseoutcomes()
    assert outcomes.pop("passed") == 1 and list(outcomes.values()) == [1]
    message = f'the fixtures of seqloss need pytest 7.0 or newer, and this is {pytest.__version__}: * "pytest>=7.0"'
    result.stdout.fnmatch_lines([message])
