"""Findings of checks, and the exit code for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from streaming_queue.errors import AuthError, ConfigError, StreamingQueueError, TopologyError
from streaming_queue.exit_codes import ExitCode


class Level(StrEnum):
    """Severity of a finding. Only a problem keeps a run from working."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is the name of the check, `seen` its result, `remedy` the next step, if there is one.

    `code` is the exit code for a problem.
    """

    check: str
    level: Level
    seen: str
    remedy: str | None = None
    code: ExitCode = ExitCode.OK


def ok(check: str, seen: str, remedy: str | None = None) -> Finding:
    """It works; `remedy` is a possible improvement."""
    return Finding(check, Level.OK, seen, remedy)


def warning(check: str, seen: str, remedy: str) -> Finding:
    """It works, but may surprise."""
    return Finding(check, Level.WARNING, seen, remedy)


def problem(check: str, seen: str, remedy: str | None = None, code: ExitCode = ExitCode.USAGE) -> Finding:
    """It does not work."""
    return Finding(check, Level.PROBLEM, seen, remedy, code)


def failure(check: str, error: StreamingQueueError, remedy: str | None = None) -> Finding:
    """The problem of an error. The text of the error names its remedy; `remedy` is another one."""
    if isinstance(error, AuthError):
        code = ExitCode.AUTH
    elif isinstance(error, ConfigError | TopologyError):
        code = ExitCode.USAGE
    else:
        code = ExitCode.UNAVAILABLE
    return problem(check, str(error), remedy, code)


PRECEDENCE = (ExitCode.AUTH, ExitCode.USAGE, ExitCode.UNAVAILABLE, ExitCode.INTERNAL)


def verdict(findings: Iterable[Finding]) -> ExitCode:
    """The exit code for all findings: that of the first problem in `PRECEDENCE`, else 0."""
    codes = {finding.code for finding in findings if finding.level is Level.PROBLEM}
    return next((code for code in PRECEDENCE if code in codes), ExitCode.OK)
