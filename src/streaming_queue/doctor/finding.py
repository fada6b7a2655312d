"""What a check found, and what all findings together mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from streaming_queue.errors import AuthError, ConfigError, StreamingQueueError, TopologyError
from streaming_queue.exit_codes import ExitCode


class Level(StrEnum):
    """How bad it is. Only a problem keeps a run from working."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` names what was looked at, `seen` says what was there, `remedy` what to do about it, if anything.

    `code` is what a problem ends the command with.
    """

    check: str
    level: Level
    seen: str
    remedy: str | None = None
    code: ExitCode = ExitCode.OK


def ok(check: str, seen: str, remedy: str | None = None) -> Finding:
    """All is well; `remedy` says what more could be had."""
    return Finding(check, Level.OK, seen, remedy)


def warning(check: str, seen: str, remedy: str) -> Finding:
    """It works, but may surprise."""
    return Finding(check, Level.WARNING, seen, remedy)


def problem(check: str, seen: str, remedy: str | None = None, code: ExitCode = ExitCode.USAGE) -> Finding:
    """It does not work."""
    return Finding(check, Level.PROBLEM, seen, remedy, code)


def failure(check: str, error: StreamingQueueError, remedy: str | None = None) -> Finding:
    """The problem that an error tells; errors name their remedy themselves, `remedy` is a further one."""
    if isinstance(error, AuthError):
        code = ExitCode.AUTH
    elif isinstance(error, ConfigError | TopologyError):
        code = ExitCode.USAGE
    else:
        code = ExitCode.UNAVAILABLE
    return problem(check, str(error), remedy, code)


_MOST_TELLING_FIRST = (ExitCode.AUTH, ExitCode.USAGE, ExitCode.UNAVAILABLE, ExitCode.INTERNAL)


def verdict(findings: Iterable[Finding]) -> ExitCode:
    """The exit code for all of them: what waiting cannot mend comes first, 0 is for no problem."""
    codes = {finding.code for finding in findings if finding.level is Level.PROBLEM}
    return next((code for code in _MOST_TELLING_FIRST if code in codes), ExitCode.OK)
