"""``--backends numpy,torch,...`` chooses the frameworks; each is imported at once, so a missing one is an error."""

import functools
import gc
import signal
import subprocess
import sys

import covering
import pytest

from seqloss.__main__ import main
from seqloss.commands import backends
from seqloss.core.dispatch import framework_called
from seqloss.testing import frameworks

pytest_plugins = ["pytester"]
# A project of its own, with its own configuration: test_plugin.py and the session "plugin" run it. And what starts
# processes with several frameworks, in the session "engines": pytest collects a folder all the same where it is named.
collect_ignore = ["sample_project", "engines"]


def pytest_addoption(parser):
    parser.addoption(
        "--backends", default="numpy", help=f"comma-separated frameworks to test: {', '.join(frameworks.NAMES)}"
    )
    parser.addoption(
        "--full", action="store_true", help="run everything in every mode and dtype, not a choice: takes long"
    )
    parser.addoption("--census", action="store_true", help="fail unless every declared conformance case has passed")


def chosen(config):
    return list(dict.fromkeys(framework_called(name) for name in config.getoption("--backends").split(",") if name))


def pytest_configure(config):
    names = chosen(config)
    unknown = set(names) - set(frameworks.NAMES)
    if unknown or not names:
        raise pytest.UsageError(f"--backends takes names out of {', '.join(frameworks.NAMES)}, got {names}")
    # The order of NAMES, not of the option: torch has to be imported before TensorFlow.
    for name in frameworks.NAMES:
        if name in names:
            try:
                frameworks.load(name)
            except ImportError as error:
                raise pytest.UsageError(f"--backends {name}: {error}") from error
    # Compilers make many small objects that live long. To look through all of them for what may be freed, as often as
    # Python does by itself, takes a tenth of a run.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    if config.getoption("--census"):
        from census import Census

        config.pluginmanager.register(Census(names, config.getoption("--full")), "census")


def pytest_generate_tests(metafunc):
    if "framework_name" in metafunc.fixturenames:
        metafunc.parametrize("framework_name", chosen(metafunc.config), scope="session")


@pytest.fixture(scope="session")
def framework(framework_name):
    """The driver module of a framework under test; see ``seqloss.testing.frameworks``."""
    return frameworks.load(framework_name)


@pytest.fixture
def numpys_own_kernels(request, monkeypatch):
    """For the backend NumPy the kernels in NumPy, whether those in C are there or not.

    The latter compute for the eager arrays of the other frameworks, and ``test_native.py`` is about them.
    """
    given = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if "numpy" in (given.get("framework_name"), given.get("name")):
        from seqloss.backends.numpy import library

        monkeypatch.setattr(library, "found", lambda: library.loaded("0"))


@pytest.fixture
def interruptible():
    """What makes a child process heed Ctrl-C, which is switched off in what a shell runs in the background."""
    return {"preexec_fn": functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)}


@pytest.fixture
def numpy_alone(monkeypatch, tmp_path):
    """No framework but NumPy, and an empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backends, "is_installed", lambda name: name == "numpy")


@pytest.fixture
def said(capsys):
    """Run a command in this process: the exit status, stdout, and stderr without the lines of progress."""

    def run(*arguments):
        status = main(list(map(str, arguments)))
        printed = capsys.readouterr()
        errors = [line for line in printed.err.splitlines() if not line.endswith("...")]
        return status, printed.out, "\n".join(errors)

    return run


@pytest.fixture
def python():
    """Run a program in a fresh interpreter and return what it printed."""

    def run(program: str, *arguments: str) -> str:
        command = [sys.executable, "-W", "error", "-c", program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def pytest_collection_modifyitems(config, items):
    """What concerns no framework runs with NumPy alone; a test of a framework has its name in its identity."""
    names = chosen(config)
    if "numpy" not in names:
        of_a_framework = {item: any(name in item.nodeid for name in names) for item in items}
        _keep(config, items, of_a_framework)
    if not config.getoption("--full"):
        _keep(config, items, {item: item.get_closest_marker("only_in_full") is None for item in items})
        _keep(config, items, _choice(items, names))


def _choice(items, names):
    """Of tests that are marked ``few_where_compiled``, where they are compiled: those in which each value of each
    parameter is, but for those that the marker names, of which one after the other has its turn. NumPy runs all of
    them, which is the same neutral code."""
    keeps, groups = dict.fromkeys(items, True), {}
    for item in items:
        if item.get_closest_marker("few_where_compiled") and _is_compiled(item, names):
            groups.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for turn, group in enumerate(groups.values()):
        # What is a parameter of several tests is one object.
        free = group[0].get_closest_marker("few_where_compiled").args
        rows = [{name: id(x) for name, x in item.callspec.params.items() if name not in free} for item in group]
        chosen = covering.each_value(rows, turn, lambda row: 0)
        keeps.update((item, any(row is one for one in chosen)) for item, row in zip(group, rows, strict=True))
    return keeps


def _is_compiled(item, names):
    """Whether each row of a test is a program: in a compiled mode, and in a framework that compiles eager code too."""
    if len(names) > 1 or not hasattr(item, "callspec"):
        return False
    driver, params = frameworks.load(names[0]), item.callspec.params
    return bool(driver.QUICK) or params.get("mode") in driver.COMPILED or params.get("compiler") in driver.COMPILERS


def _keep(config, items, keeps):
    config.hook.pytest_deselected(items=[item for item in items if not keeps[item]])
    items[:] = [item for item in items if keeps[item]]


def pytest_ignore_collect(collection_path, config):
    """The files about one framework are for runs that chose it."""
    if collection_path.parent.name == "frameworks" and collection_path.suffix == ".py":
        return collection_path.stem.split("_")[1] not in chosen(config) or None
    return None
