"""Tiers: what each folder of tests needs, and a closing table of what ran, what could not, and why.

A test that can't run here is skipped with its reason; with ADA_TEST_REQUIRE=all (as in .ci/run) that is a failure.
"""

import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
REQUIRE_ALL = os.environ.get("ADA_TEST_REQUIRE") == "all"


def tier_of(node_id: str) -> str:
    """Return the folder under tests/ that a test belongs to."""
    parts = Path(node_id.split("::")[0]).parts
    return parts[parts.index("tests") + 1] if "tests" in parts[:-2] else "tests"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Turn a skip into a failure where everything is required; long tests are only run when they are asked for."""
    report = yield
    if report.skipped and REQUIRE_ALL and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if "ADA_TEST_LONG=1" in reason:
            return report
        report.outcome = "failed"
        report.longrepr = f"ADA_TEST_REQUIRE=all, but this test was skipped: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line a tier."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, set[str]] = defaultdict(set)
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            tier = tier_of(report.nodeid)
            counts[tier][outcome] += 1
            if outcome == "skipped" and isinstance(report.longrepr, tuple):
                reasons[tier].add(report.longrepr[2].removeprefix("Skipped: "))
    terminalreporter.section("tiers")
    for tier in sorted(counts):
        line = ", ".join(f"{number} {outcome}" for outcome, number in counts[tier].items())
        terminalreporter.line(
            f"{tier:15} {line}" + "".join(f"\n{'':15} not run: {why}" for why in sorted(reasons[tier]))
        )
