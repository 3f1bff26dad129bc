"""The declared product of backends, modes, dtypes and cases becomes parameters here."""

import pytest
import suite


def pytest_generate_tests(metafunc):
    if "conformance" in metafunc.fixturenames:
        rows = suite.declared(metafunc.config.getoption("--backends").split(","))
        metafunc.parametrize("conformance", [marked(row) for row in rows])


def marked(row):
    identity = suite.identity(*row)
    return pytest.param(row, id=identity, marks=suite.marks(identity))
