"""A plug-in of pytest that writes the outcome of each check to a file, for `running.py`."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from streaming_queue.testing.expect import shown, where
from streaming_queue.testing.verdict import ContractError

REPORT_VARIABLE = "STQ_CONTRACT_REPORT"

_checks: dict[str, dict[str, Any]] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record the worst outcome of a check's set-up, call and teardown."""
    report = yield
    line = getattr(getattr(item, "function", None), "contract_line", None)
    if line is None:
        return report
    check = _checks.setdefault(
        item.nodeid, {"line": line.id, "check": item.name, "outcome": "skipped", "told": "", "seconds": 0.0}
    )
    check["seconds"] += report.duration
    if report.failed:
        check |= {"outcome": "failed", "told": _failure(call)}
    elif report.skipped and call.excinfo is not None:
        check["told"] = str(getattr(call.excinfo.value, "msg", ""))
    elif report.when == "call":
        check["outcome"] = "held"
    return report


def _failure(call: pytest.CallInfo[None]) -> str:
    """The report of a line that does not hold, or the reason why the check could not run."""
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, ContractError):
        return str(error)
    return f"the check could not run ({call.when})\n  came: {shown(error)}{where(error) if error else ''}"


def pytest_sessionfinish() -> None:
    """Write the checks as one JSON list."""
    Path(os.environ[REPORT_VARIABLE]).write_text(json.dumps(list(_checks.values())), encoding="utf-8")
