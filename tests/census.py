"""A census of the conformance suite: the session fails unless every declared case has passed.

A case that is deselected, skipped, or lost in a refactoring is noticed. So is an exception in the table of expected
failures that is no longer one, because it must fail strictly and does not count as declared.
"""

import pytest
import suite


class Census:
    """A pytest plugin; with workers it runs in the controlling process, where the reports of all arrive."""

    def __init__(self, names):
        self.declared = {suite.identity(*row) for row in suite.declared(names)} - set(suite.XFAIL)
        self.passed = set()

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed and "::test_case[" in report.nodeid:
            self.passed.add(report.nodeid.partition("::test_case[")[2].removesuffix("]"))

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
