"""Tests that name frameworks themselves, and ways to ask for fixtures by which a test has no parameters.

The session "plugin" of noxfile.py runs this file with the oldest pytest too.
"""

import re

import pytest

from seqloss.testing import frameworks
from seqloss.testing.plugin import choice


@pytest.fixture
def write(pytester):
    """Write a file of tests."""
    return lambda text: pytester.makepyfile(test_it=f"import unittest\nimport pytest\n{text}")


OWN = "@pytest.mark.parametrize('seqloss_backend', ['numpy'], indirect=True)"
IS_NUMPY = "assert seqloss_backend.name == 'numpy'"
HOOK = """
def pytest_generate_tests(metafunc):
    if "seqloss_backend" in metafunc.fixturenames:
        metafunc.parametrize("seqloss_backend", ["numpy"]{indirect})
"""
NAMED = {
    "function": f"{OWN}\ndef test(seqloss_backend): {IS_NUMPY}",
    "class": f"{OWN}\nclass Test:\n    def test(self, seqloss_backend): {IS_NUMPY}",
    "module": f"pytestmark = {OWN[1:]}\ndef test(seqloss_backend): {IS_NUMPY}",
    "hook": f"{HOOK.format(indirect=', indirect=True')}\ndef test(seqloss_backend): {IS_NUMPY}",
    "run": f"{OWN}\ndef test(seqloss_backend, seqloss_run, seqloss_mode):\n    {IS_NUMPY} and seqloss_mode == 'eager'",
    "run alone": f"{OWN}\ndef test(seqloss_run): assert seqloss_run(lambda x: x, [1.0]) == (1.0, None)",
    "hook and run": f"{HOOK.format(indirect=', indirect=True')}\ndef test(seqloss_run): pass",
    "fixture": f"@pytest.fixture\ndef port(seqloss_backend): {IS_NUMPY}\n{OWN}\ndef test(port): pass",
    "usefixtures": f"{OWN}\n@pytest.mark.usefixtures('seqloss_backend')\ndef test(): pass",
    "beside others": "@pytest.mark.parametrize('seqloss_backend, bound', [('numpy', 2)], "
    f"indirect=['seqloss_backend'])\ndef test(seqloss_backend, bound): {IS_NUMPY} and bound == 2",
    "beside others, and run": "@pytest.mark.parametrize('seqloss_backend, bound', [('numpy', 2)], "
    f"indirect=['seqloss_backend'], scope='session')\ndef test(seqloss_backend, bound, seqloss_run): {IS_NUMPY}",
}


@pytest.mark.parametrize("text", NAMED.values(), ids=NAMED)
def test_a_test_names_frameworks_itself(write, run, only, text):
    write(text)
    only("numpy", "jax")
    run().assert_outcomes(passed=1)


def test_modes_go_with_them_and_the_command_line_leaves_out(write, run, only):
    write(
        "@pytest.mark.seqloss_modes('compiled', 'eager')\n"
        "@pytest.mark.parametrize('seqloss_backend', ['torch', 'numpy'], indirect=True)\n"
        "def test(seqloss_run): pass\n"
        f"{OWN}\ndef test_numpy(seqloss_backend): pass"
    )
    only("numpy", "torch", "jax")

    def collected(*arguments):
        result = run("--collect-only", "-q", *arguments)
        names = sorted(line.partition("::")[2] for line in result.outlines if "::" in line)
        return names, int(re.search(r"(\d+) deselected", result.outlines[-1])[1])

    of_torch = ["test[torch-compiled]", "test[torch-eager]"]
    # What NumPy has no compiler for is left out too.
    assert collected() == (["test[numpy-eager]", *of_torch, "test_numpy[numpy]"], 1)
    assert collected("--seqloss-backends", "torch,jax") == (of_torch, 3)


CANNOT = "the parametrisation of seqloss_backend "


@pytest.mark.parametrize(
    ("value", "configured", "message"),
    [
        ("'cupy'", "", "takes names out of numpy, torch, tensorflow, jax, got 'cupy'"),
        ("3", "", "takes names out of numpy, torch, tensorflow, jax, got 3"),
        ("'jax'", "", "names jax, which cannot be imported here; *pip install *jax*, or name others"),
        ("'jax'", "numpy", "names jax, which cannot be imported here; *pip install *jax*, or name others"),
        ("'torch'", "numpy", "names torch, which seqloss_backends, in the configuration of pytest, does not: add it *"),
    ],
)
def test_what_is_not_under_test_is_refused(pytester, write, run, only, value, configured, message):
    write(OWN.replace("'numpy'", value) + "\ndef test(seqloss_backend): pass")
    pytester.makeini(f"[pytest]\nseqloss_backends = {configured}")
    only("numpy", "torch")
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"{CANNOT}{message}"])


DIRECT = OWN.replace(", indirect=True", "")
WITHOUT = "seqloss_backend is parametrised without indirect, so *: add indirect=True, or indirect=*"
MODES = 'seqloss_mode cannot be parametrised: write @pytest.mark.seqloss_modes("eager", "compiled"), or one of them'
TAKEN = "seqloss_* needs the {} of the plugin, but a fixture of this project has the same name: rename that *"
REFUSED = {
    "direct": (f"{DIRECT}\ndef test(seqloss_backend): pass", WITHOUT),
    "direct on a class": (f"{DIRECT}\nclass Test:\n    def test(self, seqloss_backend): pass", WITHOUT),
    "direct and run": (f"{DIRECT}\ndef test(seqloss_backend, seqloss_run): pass", WITHOUT),
    "direct in a hook": (f"{HOOK.format(indirect='')}\ndef test(seqloss_backend): pass", WITHOUT),
    "direct mode": ("@pytest.mark.parametrize('seqloss_mode', ['eager'])\ndef test(seqloss_mode): pass", MODES),
    "mode": ("@pytest.mark.parametrize('seqloss_mode', ['eager'], indirect=True)\ndef test(seqloss_run): pass", MODES),
    "both": (
        "@pytest.mark.parametrize('seqloss_backend, seqloss_mode', [('numpy', 'eager')], indirect=True)\n"
        "def test(seqloss_run): pass",
        MODES,
    ),
    "backend of the project": (
        "@pytest.fixture(scope='session')\ndef seqloss_backend(): pass\ndef test(seqloss_run): pass",
        TAKEN.format("seqloss_backend"),
    ),
    "backend of the project, for one test": (
        "@pytest.fixture\ndef seqloss_backend(seqloss_backend): return seqloss_backend\ndef test(seqloss_run): pass",
        TAKEN.format("seqloss_backend"),
    ),
    "mode of the project": (
        "@pytest.fixture\ndef seqloss_mode(): return 'jit'\ndef test(seqloss_run): pass",
        TAKEN.format("seqloss_mode"),
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_stops_the_run_with_words(write, run, text, message):
    write(text)
    result = run("--seqloss-backends", "numpy")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])


def test_a_narrow_scope_beside_a_run_works_or_is_refused(write, run):
    write(
        "@pytest.mark.parametrize('seqloss_backend, bound', [('numpy', 2)], indirect=['seqloss_backend'])\n"
        "def test(seqloss_run, bound): pass"
    )
    result = run("--seqloss-backends", "numpy")
    if choice.PYTEST < (8, 4):
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(['*from pytest 8.4 on: add scope="session" to that parametrize'])
    else:
        result.assert_outcomes(passed=1)


WITHOUT_PARAMETERS = {
    "getfixturevalue": "def test(request): request.getfixturevalue('seqloss_backend')",
    "getfixturevalue of run": "def test(request): request.getfixturevalue('seqloss_run')",
    "getfixturevalue of run beside the framework": "def test(request, seqloss_backend):\n"
    "    request.getfixturevalue('seqloss_run')",
    "fixture": "@pytest.fixture\ndef port(request): request.getfixturevalue('seqloss_backend')\ndef test(port): pass",
    "unittest with usefixtures": "@pytest.mark.usefixtures('seqloss_backend')\n"
    "class Test(unittest.TestCase):\n    def test(self): pass",
    "unittest with a fixture": "class Test(unittest.TestCase):\n    @pytest.fixture(autouse=True)\n"
    "    def give(self, seqloss_run): pass\n    def test(self): pass",
    "doctest": "def f():\n    '''\n    >>> getfixture('seqloss_backend')\n    '''",
}


@pytest.mark.parametrize("text", WITHOUT_PARAMETERS.values(), ids=WITHOUT_PARAMETERS)
def test_asking_where_pytest_gives_no_parameters_is_one_sentence(write, run, text):
    write(text)
    result = run("--seqloss-backends", "numpy", "--doctest-modules")
    outcomes = result.parseoutcomes()
    assert sum(outcomes.get(name, 0) for name in ("failed", "error", "errors")) == 1
    result.stdout.fnmatch_lines(["a test runs once for each value of seqloss_*, so it has to be a function *"])
    result.stdout.no_fnmatch_line("*AttributeError*")
    result.stdout.no_fnmatch_line("*parameters.py*")


def test_what_a_test_has_parameters_for_can_be_asked_for_later(write, run):
    write(
        "@pytest.mark.seqloss_modes('eager')\n"
        "def test(seqloss_mode, request):\n"
        "    assert request.getfixturevalue('seqloss_backend').name == 'numpy'\n"
        "    assert request.getfixturevalue('seqloss_run')(lambda x: x, [1.0]) == (1.0, None)\n"
        "def test_other(request): request.getfixturevalue('seqloss_golden'), request.getfixturevalue('assert_parity')\n"
    )
    run("--seqloss-backends", "numpy").assert_outcomes(passed=2)


FOLLOWS = """
@pytest.fixture(scope="{scope}")
def port(seqloss_backend, seqloss_run, seqloss_mode):
    return seqloss_backend.name, seqloss_mode, seqloss_run

def test_framework(seqloss_backend, port): assert port[0] == seqloss_backend.name

@pytest.mark.parametrize("seqloss_backend", ["jax", "numpy"], indirect=True)
class TestGroup:
    @pytest.mark.seqloss_modes("compiled", "eager")
    def test_mode(self, seqloss_backend, seqloss_mode, port): assert port[:2] == (seqloss_backend.name, seqloss_mode)

    def test_run(self, port, seqloss_run): assert port[2] is seqloss_run
"""


@pytest.mark.parametrize("scope", ["function", "class", "module", "session"])
def test_fixtures_of_any_scope_follow_the_framework(monkeypatch, write, run, only, scope):
    monkeypatch.setattr(frameworks, "load", lambda name: name)
    only("numpy", "jax")
    write(FOLLOWS.format(scope=scope))
    run().assert_outcomes(passed=7, deselected=1)


ASKS_LATER = """
@pytest.fixture(scope="{scope}")
def port(request): return request.getfixturevalue("{name}")

@pytest.mark.seqloss_modes("eager")
def test_framework(seqloss_backend, {name}, port): assert port is {name}
"""


@pytest.mark.parametrize("scope", ["function", "class", "module", "session"])
@pytest.mark.parametrize("name", ["seqloss_backend", "seqloss_mode", "seqloss_run"])
def test_a_fixture_of_several_tests_asks_by_an_argument(monkeypatch, write, run, only, scope, name):
    monkeypatch.setattr(frameworks, "load", lambda name: name)
    only("jax", "tensorflow")
    write(ASKS_LATER.format(scope=scope, name=name).replace("seqloss_backend, seqloss_backend", "seqloss_backend"))
    result = run()
    if scope == "function":
        result.assert_outcomes(passed=2)
    else:
        result.assert_outcomes(errors=2)
        result.stdout.fnmatch_lines([f"the fixture port has the scope {scope!r}, so it has to ask for {name} by an *"])


HIDES = {
    "hidden": ("@pytest.fixture\ndef seqloss_backend(): return 'mine'\ndef test(seqloss_backend): pass", 1),
    "hidden, with parameters": (
        "@pytest.fixture(params=['mine', 'other', 'third'])\n"
        "def seqloss_backend(request): return request.param\n"
        "def test(seqloss_backend): assert seqloss_backend in ('mine', 'other', 'third')",
        3,
    ),
    "wrapped": (
        "@pytest.fixture\ndef seqloss_backend(seqloss_backend): return [seqloss_backend]\n"
        "def test(seqloss_backend): assert seqloss_backend[0].name in ('numpy', 'jax')",
        2,
    ),
    "wrapped, and run": (
        "@pytest.fixture(scope='session')\ndef seqloss_backend(seqloss_backend): return seqloss_backend\n"
        "def test(seqloss_backend, seqloss_run, seqloss_mode): assert seqloss_backend.name in ('numpy', 'jax')",
        2,
    ),
    "wrapped, and named": (
        "@pytest.fixture\ndef seqloss_backend(seqloss_backend): return [seqloss_backend]\n"
        f"{OWN}\ndef test(seqloss_backend): assert seqloss_backend[0].name == 'numpy'",
        1,
    ),
}


@pytest.mark.parametrize(("text", "tests"), HIDES.values(), ids=HIDES)
def test_a_fixture_of_the_same_name_is_the_projects(monkeypatch, write, run, only, text, tests):
    monkeypatch.setattr(frameworks, "load", lambda name: name)
    only("numpy", "jax")
    write(text)
    run().assert_outcomes(passed=tests)
