"""A pytest plugin for the runs of mutants: a choice of tests in a given order, or what each test runs through.

``MUTANTS_ONLY`` names a JSON file with the identities to run, of tests or of functions with all their tests.
``MUTANTS_COVER`` names a folder, into which every worker writes the lines of ``seqloss`` that each test runs, and its
seconds.
"""

import faulthandler
import json
import os
import sys
import time
from pathlib import Path

import pytest

# The slowest of all tests takes less than this.
SECONDS = 200


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    if "MUTANTS_ONLY" in os.environ:
        place = {name: i for i, name in enumerate(json.loads(Path(os.environ["MUTANTS_ONLY"]).read_text()))}
        rank = {item: place.get(item.nodeid, place.get(item.nodeid.partition("[")[0])) for item in items}
        items[:] = sorted((item for item in items if rank[item] is not None), key=rank.get)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A fault may make an endless loop: it ends the process, which pytest or its controller calls a failure."""
    if "MUTANTS_ONLY" in os.environ:
        faulthandler.dump_traceback_later(SECONDS, exit=True, file=sys.__stderr__)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


class Cover:
    """The lines of each test, those of imports under the name of no test."""

    def __init__(self, folder, root):
        import coverage

        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        self.path = Path(folder) / f"{worker}.json"
        self.source = root / "seqloss"
        self.seconds = {}
        self.coverage = coverage.Coverage(data_file=None, include=[f"{self.source}/*"], config_file=False)
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.coverage.switch_context(item.nodeid)
        start = time.perf_counter()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.perf_counter() - start
            self.coverage.switch_context("")

    def pytest_sessionfinish(self):
        if not self.seconds:
            return
        self.coverage.stop()
        data = self.coverage.get_data()
        lines = {
            str(Path(path).relative_to(self.source.parent)): data.contexts_by_lineno(path)
            for path in data.measured_files()
        }
        self.path.write_text(json.dumps({"seconds": self.seconds, "lines": lines}))


def pytest_configure(config):
    if "MUTANTS_COVER" in os.environ:
        config.pluginmanager.register(Cover(os.environ["MUTANTS_COVER"], config.rootpath))
