"""Says at the end how many tests of each kind ran, and lets none be skipped in CI.

A test's kind is the folder it stands in: conformance, e2e or browser; all others are unit tests.
Those that take longest begin first, so that all processes end at about the same time.
"""

import os
from collections import Counter
from pathlib import Path

import pytest

KINDS = ("unit", "conformance", "e2e", "browser")

SLOW = ("e2e", "browser", "deploy", "local", "upstream", "examples", "cli", "conformance", "stores")
"""Folders whose files take long, the slowest first."""


class Kinds:
    """Counts as the reports come in."""

    def __init__(self, config: pytest.Config, *, no_skips: bool) -> None:
        self._tests = config.rootpath / "tests"
        self._root = config.rootpath
        self._no_skips = no_skips
        self.ran: Counter[str] = Counter()
        self.skipped: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the slow folders first."""
        rank = {folder: place for place, folder in enumerate(SLOW)}
        items.sort(key=lambda item: rank.get(self._folder(item.nodeid), len(rank)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test where it ran, or was skipped before it could."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)
        elif report.when == "call":
            self.ran[self._kind(report.nodeid)] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A whole file may be skipped as it is read."""
        if report.skipped:
            self.skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn a green run with skips into a red one."""
        if self._no_skips and self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The last words of a run."""
        counts = ", ".join(f"{kind} {self.ran[kind]}" for kind in KINDS)
        terminalreporter.section("kinds")
        terminalreporter.line(f"tests that ran: {counts}; skipped: {len(self.skipped)}")
        if self._no_skips and self.skipped:
            names = ", ".join(self.skipped)
            terminalreporter.line(
                f"in CI no test may be skipped, but these were: {names}", red=True
            )

    def _kind(self, nodeid: str) -> str:
        folder = self._folder(nodeid)
        return folder if folder in KINDS else "unit"

    def _folder(self, nodeid: str) -> str:
        path = self._root / Path(nodeid.partition("::")[0])
        return path.relative_to(self._tests).parts[0] if path.is_relative_to(self._tests) else ""


def pytest_configure(config: pytest.Config) -> None:
    """Join the run."""
    no_skips = os.environ.get("CI", "").lower() in ("1", "true", "yes")
    config.pluginmanager.register(Kinds(config, no_skips=no_skips), "kinds-of-tests")
