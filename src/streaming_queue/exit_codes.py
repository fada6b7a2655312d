"""The exit codes of commands, and the code of each error.

0    all questions were answered; the command did what was asked
1    an internal error, or an error without a code of its own
2    wrong usage or configuration; another process works on the run
3    done, but some questions failed
4    a `--fail-if` holds, or a target is missed
69   an endpoint is unavailable
75   stopped, can be resumed: out of quota or budget, drained by `stq stop`, the disk is full, or the disk or the event
     loop stood still; `results --follow`: so, failed or killed
77   an endpoint refused the credentials
130  interrupted (SIGINT); `run` after it drained, `serve` ends with 0
141  the reader of stdout went away
143  terminated (SIGTERM); `run` after it drained, `serve` ends with 0
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from streaming_queue.errors import (
    AuthError,
    ConfigError,
    ConnectError,
    DiskFullError,
    QueueInUseError,
    QueueStalledError,
    QuotaError,
    SendTimeoutError,
    StreamingQueueError,
    TopologyError,
)


class ExitCode(IntEnum):
    """All exit codes of commands."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    SOME_FAILED = 3
    TARGET_MISSED = 4
    UNAVAILABLE = 69
    STOPPED = 75
    AUTH = 77
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


BY_ERROR: Mapping[type[BaseException], ExitCode] = {
    ConfigError: ExitCode.USAGE,
    TopologyError: ExitCode.USAGE,
    ConnectError: ExitCode.UNAVAILABLE,
    SendTimeoutError: ExitCode.UNAVAILABLE,
    QuotaError: ExitCode.STOPPED,
    DiskFullError: ExitCode.STOPPED,
    QueueStalledError: ExitCode.STOPPED,
    QueueInUseError: ExitCode.USAGE,
    AuthError: ExitCode.AUTH,
    StreamingQueueError: ExitCode.INTERNAL,
}
"""Error class -> code; the nearest base class counts."""


def exit_code(error: BaseException) -> ExitCode:
    """The exit code for an error; `INTERNAL` if the error is not ours."""
    return next((BY_ERROR[cls] for cls in type(error).__mro__ if cls in BY_ERROR), ExitCode.INTERNAL)
