"""A census of the conformance suite: the session fails unless every declared case has passed.

A case that is deselected, skipped, or lost in a refactoring is noticed. So is an exception in the table of expected
failures that is no longer one, because it must fail strictly and does not count as declared.
"""

import re

import family_suite
import pytest
import suite

# Every declared case is the only parameter of one of these two. No bracket before: identities are parameters elsewhere.
CASE = re.compile(r"^[^\[]*::test_(?:case|family)\[(.*)\]$")


class Census:
    """A pytest plugin; with workers it runs in the controlling process, where the reports of all arrive."""

    def __init__(self, names, full):
        rows = [*suite.declared(names, full), *family_suite.declared(names, full)]
        self.declared = {suite.identity(*row) for row in rows} - set(suite.XFAIL)
        self.passed = set()

    def pytest_runtest_logreport(self, report):
        case = CASE.search(report.nodeid)
        if report.when == "call" and report.passed and case:
            self.passed.add(case[1])

    def missing(self):
        return sorted(self.declared - self.passed)

    def undeclared(self):
        return sorted(self.passed - self.declared)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session, exitstatus):
        if hasattr(session.config, "workerinput"):
            return
        if exitstatus == pytest.ExitCode.OK and (self.missing() or self.undeclared()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        missing, undeclared = self.missing(), self.undeclared()
        line = f"census: {len(self.declared) - len(missing)} of {len(self.declared)} declared conformance cases passed"
        terminalreporter.write_line(line, red=bool(missing), green=not missing)
        for word, names in (("missing", missing), ("undeclared", undeclared)):
            for name in names[:10]:
                terminalreporter.write_line(f"census: {word}: {name}", red=True)
