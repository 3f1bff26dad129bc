"""Which frameworks a test of the plugin runs on."""

import re
import sys

import pytest
from plugged import PLUGIN

from seqloss.testing import frameworks


@pytest.fixture
def identities(run):
    """The parameters of the tests that a session would run."""

    def collect(*arguments):
        lines = run("--collect-only", "-q", *arguments).outlines
        return [re.search(r"\[(.*)\]", line)[1] for line in lines if "::" in line]

    return collect


USES_BACKEND = "def test(seqloss_backend): pass"


@pytest.mark.parametrize("names", [["numpy"], ["numpy", "jax"], ["numpy", "torch", "tensorflow", "jax"]])
def test_all_that_are_installed_are_tested(pytester, identities, only, names):
    pytester.makepyfile(USES_BACKEND)
    only(*names)
    assert identities() == names


@pytest.mark.parametrize("given", ["numpy,jax", "jax,numpy", " jax , numpy,jax"])
def test_the_option_chooses(pytester, identities, only, given):
    pytester.makepyfile(USES_BACKEND)
    only("numpy", "torch", "jax")
    assert identities("--seqloss-backends", given) == ["numpy", "jax"]


def test_the_option_knows_the_names_that_people_use(pytester, identities, only):
    pytester.makepyfile(USES_BACKEND)
    only("numpy", "torch", "tensorflow")
    assert identities("--seqloss-backends", "tf,pytorch,torch") == ["torch", "tensorflow"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pyproject.toml", '[tool.pytest.ini_options]\nseqloss_backends = ["numpy", "jax"]'),
        ("pyproject.toml", '[tool.pytest.ini_options]\nseqloss_backends = "numpy, jax"'),
        ("pytest.ini", "[pytest]\nseqloss_backends = numpy, jax"),
        ("pytest.ini", "[pytest]\nseqloss_backends =\n  numpy\n  jax"),
    ],
)
def test_the_configuration_chooses_unless_the_option_does(pytester, identities, only, file, text):
    pytester.makepyfile(USES_BACKEND)
    pytester.path.joinpath(file).write_text(text)
    only("numpy", "torch", "jax")
    assert identities() == ["numpy", "jax"]
    assert identities("--seqloss-backends", "torch") == ["torch"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("numpy,cupy", "takes names out of numpy, torch, tensorflow, jax, separated by commas, got 'numpy,cupy'"),
        (",", "takes names out of numpy, torch, tensorflow, jax, separated by commas, got ','"),
        (
            "jax,numpy,torch",
            "names jax, torch, which cannot be imported here; *pip install *jax,torch*, or name others*",
        ),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_what_cannot_be_tested_is_a_usage_error(pytester, run, only, given, message, in_file):
    pytester.makepyfile("def test(): pass")
    only("numpy")
    if in_file:
        pytester.makeini(f"[pytest]\nseqloss_backends = {given}")
    result = run() if in_file else run("--seqloss-backends", given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    where = "seqloss_backends, in the configuration of pytest," if in_file else "--seqloss-backends"
    result.stderr.fnmatch_lines([f"ERROR: {where} {message}"])


def test_an_empty_option_is_a_usage_error(pytester, run):
    pytester.makepyfile("def test(): pass")
    pytester.makeini("[pytest]\nseqloss_backends = numpy")
    assert run("--seqloss-backends", "").ret == pytest.ExitCode.USAGE_ERROR


def test_what_only_looks_like_a_framework_is_not_one(pytester):
    """A folder beside the tests, and what a project put in a framework's place."""
    pytester.makepyfile(
        conftest="import sys, types; sys.modules['jax'] = types.ModuleType('jax')", test_it=USES_BACKEND
    )
    pytester.mkdir("torch")
    pytester.mkdir("tensorflow")
    # The frameworks of this environment are out of the way, once what pytest and the plugin need is there.
    pytester.makepyfile(
        start="""
        import sys
        import numpy, pygments, pytest
        sys.path[:] = [path for path in sys.path if not path.endswith("site-packages")]
        sys.exit(pytest.main(sys.argv[1:]))
        """
    )
    result = pytester.run(sys.executable, "start.py", *PLUGIN, "--collect-only", "-q")
    assert [line for line in result.outlines if "::" in line] == ["test_it.py::test[numpy]"]


def test_a_framework_that_is_broken_is_an_error_and_no_skip(pytester, monkeypatch, only, run):
    def load(name):
        raise ImportError(f"half of {name} is missing")

    monkeypatch.setattr(frameworks, "load", load)
    pytester.makepyfile(USES_BACKEND)
    only("jax")
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E*ImportError: half of jax is missing"])


def test_torch_is_imported_before_tensorflow(pytester, monkeypatch, only, run):
    loaded = []
    monkeypatch.setattr(frameworks, "load", loaded.append)
    pytester.makepyfile(test_it=USES_BACKEND)
    only("torch", "tensorflow")
    run("-k", "tensorflow").assert_outcomes(passed=1, deselected=1)
    assert loaded == ["torch", "tensorflow"]
