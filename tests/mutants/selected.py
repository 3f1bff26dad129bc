"""A pytest plugin for the runs of mutants: a choice of tests in a given order, or what each test runs through.

``MUTANTS_ONLY`` names a JSON file with the identities to run. ``MUTANTS_COVER`` names a folder, into which every worker
writes the lines of ``seqloss`` that each test runs, and its seconds.
"""

import json
import os
import time
from pathlib import Path

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    if "MUTANTS_ONLY" in os.environ:
        place = {name: i for i, name in enumerate(json.loads(Path(os.environ["MUTANTS_ONLY"]).read_text()))}
        items[:] = sorted((x for x in items if x.nodeid in place), key=lambda x: place[x.nodeid])


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
