"""A plugin for pytest that writes every outcome to a file at once, so that a run that is killed leaves its results.

One JSON line for each test: its name, the outcome, seconds, and for a failure the last line of the message. The file
is named in ``SYMTENSOR_OUTCOMES``; with workers, only their controller writes.
"""

import json
import os
from typing import Any

import pytest

VARIABLE = "SYMTENSOR_OUTCOMES"


class Outcomes:
    """Writes reports as they come."""

    def __init__(self, path: str) -> None:
        self.stream = open(path, "a")  # noqa: SIM115 - open until pytest ends

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        if report.when == "teardown" and report.outcome == "skipped":
            return
        outcome = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if outcome == "skipped" else "xpassed"
        elif outcome == "failed" and report.when != "call":
            outcome = "error"
        line = {"test": report.nodeid, "outcome": outcome, "seconds": round(report.duration, 4)}
        if outcome in ("failed", "error"):
            crash = getattr(report.longrepr, "reprcrash", None)
            line["message"] = (crash.message if crash else str(report.longrepr))[:400]
        self.stream.write(json.dumps(line) + "\n")
        self.stream.flush()

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.stream.write(json.dumps({"test": report.nodeid, "outcome": "error", "seconds": 0.0,
                                          "message": str(report.longrepr)[-400:]}) + "\n")  # fmt: skip
            self.stream.flush()


def pytest_configure(config: pytest.Config) -> None:
    if VARIABLE in os.environ and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(os.environ[VARIABLE]), "outcomes-writer")
