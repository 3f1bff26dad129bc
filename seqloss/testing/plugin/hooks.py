"""What the plugin adds to pytest: options, a marker, parameters, and a list of what was recorded.

pytest imports this in every project beside which seqloss is installed. So nothing here may need what an older pytest
lacks: annotations are not evaluated, and hooks have options that pytest always had.
"""

from __future__ import annotations

from typing import Any

import pytest

from seqloss.testing.plugin import choice, parameters
from seqloss.testing.plugin.recording import written


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("seqloss", "losses in several frameworks")
    group.addoption("--seqloss-backends", metavar="NAMES", help=choice.HELP)
    group.addoption(
        "--seqloss-golden-update",
        action="store_true",
        help="record the results that differ from the golden files, instead of failing",
    )
    parser.addini("seqloss_backends", f"the default of --seqloss-backends: {choice.HELP}", type="linelist", default=[])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"seqloss_modes(*names): run seqloss_run in these ways, out of {', '.join(choice.MODES)}"
    )
    choice.check(config)


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if choice.PYTEST >= choice.OLDEST_PYTEST:
        parameters.parametrize(metafunc)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    parameters.deselect(config, items)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    parameters.watch(fixturedef, request)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    paths = written(terminalreporter.stats)
    if paths:
        terminalreporter.section("golden files written")
        for path in paths:
            terminalreporter.write_line(path)
