"""Sessions of pytest with the plugin, and nothing else, loaded.

It is loaded by name, since an environment need not have the entry point; one test makes such a point.
"""

import importlib.util

import pytest
from plugged import PLUGIN, ROOT


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Plugins that happen to be installed stay out of the sessions, and so do options of this one."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def run(pytester):
    """Run pytest with the plugin in this process, where NumPy is the only framework that the tests use."""
    return lambda *arguments: pytester.runpytest_inprocess(*PLUGIN, *arguments)


@pytest.fixture
def only(monkeypatch):
    """Pretend that these frameworks and no others are installed."""
    find = importlib.util.find_spec

    def pretend(*names):
        def find_spec(name, package=None):
            if name in ("numpy", "torch", "tensorflow", "jax"):
                return find("json") if name in names else None
            return find(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)

    return pretend
