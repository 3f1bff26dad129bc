"""These tests compare the frameworks with each other and need all of them."""

from seqloss.testing import frameworks


def pytest_ignore_collect(collection_path, config):
    chosen = set(config.getoption("--backends").split(","))
    return None if chosen == set(frameworks.NAMES) else True
