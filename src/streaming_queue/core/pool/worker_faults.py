"""Which errors are the worker's own, and which of them cost it a question."""

from __future__ import annotations

from streaming_queue.errors import (
    AuthError,
    BackendClosedError,
    ConfigError,
    ConnectError,
    QuotaError,
    RateLimitedError,
    StreamingQueueError,
    UnavailableError,
    UnknownAgentError,
    UnreachableError,
)

UNFIT = (AuthError, QuotaError, ConfigError, UnknownAgentError, UnreachableError, BackendClosedError)
"""Errors that every question would get: the worker is out for this run."""
WORKERS_OWN = (*UNFIT, ConnectError, RateLimitedError)
"""Errors of the worker, not of the question."""


def is_loss(error: StreamingQueueError) -> bool:
    """Whether the worker was lost with the question; a worker that never had the question was not."""
    return isinstance(error, ConnectError) and not isinstance(error, UnavailableError)


def poison(error: StreamingQueueError, losses: int, most: int) -> str | None:
    """The reason to give up a question after `error` and `losses` lost workers in a row; None: ask another worker."""
    if is_loss(error) and losses >= most:
        return f"lost {losses} workers in a row, last: {error}"
    return None
