"""The pytest plugin: a test for each framework that is installed, eager and compiled, with recorded results.

pytest loads it wherever seqloss is installed, under the name ``seqloss``. So importing it imports neither NumPy nor a
framework nor the comparison; a test that uses a fixture brings what that fixture needs.
"""

from seqloss.testing.plugin.fixtures import assert_parity, seqloss_backend, seqloss_golden, seqloss_mode, seqloss_run
from seqloss.testing.plugin.hooks import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_fixture_setup,
    pytest_generate_tests,
    pytest_terminal_summary,
)

__all__ = [
    "assert_parity",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_fixture_setup",
    "pytest_generate_tests",
    "pytest_terminal_summary",
    "seqloss_backend",
    "seqloss_golden",
    "seqloss_mode",
    "seqloss_run",
]
