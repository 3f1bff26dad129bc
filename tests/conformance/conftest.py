"""The declared product, and a census that fails the session unless all of it has passed.

``--census`` compares the ids that passed with the ids that the tables of cases, modes and dtypes declare. A case that
is deselected, lost in a refactoring or skipped is noticed.
"""

import pytest
import suite


def pytest_generate_tests(metafunc):
    if "conformance" in metafunc.fixturenames:
        rows = list(suite.declared(metafunc.config.getoption("--backends").split(",")))
        metafunc.parametrize("conformance", rows, ids=[suite.identity(*row) for row in rows])
