"""The declared product of backends, modes, dtypes and cases becomes parameters here."""

import family_suite
import pytest
import suite


def pytest_generate_tests(metafunc):
    for fixture, table in (("conformance", suite), ("family", family_suite)):
        if fixture in metafunc.fixturenames:
            config = metafunc.config
            rows = table.declared(config.getoption("--backends").split(","), config.getoption("--full"))
            metafunc.parametrize(fixture, [marked(row) for row in rows])


def marked(row):
    identity = suite.identity(*row)
    return pytest.param(row, id=identity, marks=suite.marks(identity))
