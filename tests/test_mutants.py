"""The faults that are put into the sources: one change each, in code alone, that leaves every line in its place."""

import ast
import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "mutants"


@pytest.fixture(scope="module")
def mutations():
    spec = importlib.util.spec_from_file_location("mutations", FOLDER / "mutations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHANGES = {
    "a < b": ["a <= b"],
    "a is None": ["a is not None"],
    "a and b": ["a or b"],
    "not a": ["a"],
    "-a": ["a"],
    "a + b": ["a - b"],
    "a * 2": ["a / 2", "a * 3"],
    "a & b": ["a | b"],
    "a += b": ["a -= b"],
    "f(True)": ["pass", "f(False)"],
    "x = 0.5": ["x = 1.0"],
    "x = a if b else c": ["x = a if not b else c"],
    "x = f(a, axis=b)": ["x = f(a)"],
    "if a:\n    f()": ["if not a:\n    f()", "if a:\n    pass"],
    "def f():\n    return a": ["def f():\n    return None"],
    # What is no code, or says something to people.
    '"""a + 1"""': [],
    "x: a[1]": [],
    "def f(x: a | b = c) -> a | b: ...": [],
    "import a.b": [],
    "__all__ = ['a', *b]": [],
    "'text' + a": [],
    "f'{a + 1}'": [],
    "raise E(a + 1)": [],
}


@pytest.mark.parametrize("source", CHANGES)
def test_changes(mutations, source):
    results = [mutation.apply(source) for mutation in mutations.of_source(source)]
    assert sorted(ast.dump(ast.parse(result)) for result in results) == sorted(
        ast.dump(ast.parse(expected)) for expected in CHANGES[source]
    )


FILES = sorted((FOLDER.parents[1] / "seqloss" / "core").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_every_change_is_one_and_keeps_the_lines(mutations, path):
    source = path.read_text(encoding="utf-8")
    before = ast.dump(ast.parse(source))
    for mutation in mutations.of_source(source):
        result = mutation.apply(source)
        assert ast.dump(ast.parse(result)) != before, mutation
        assert result.count("\n") == source.count("\n"), mutation
