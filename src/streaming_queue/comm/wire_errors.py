"""Refusals in HTTP and JSON -> the project's errors: one table for every protocol over HTTP. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from streaming_queue.errors import (
    ERRORS_BY_CODE,
    AuthError,
    RateLimitedError,
    RemoteError,
    StreamingQueueError,
    error_from_event,
)
from streaming_queue.messages import ERROR


def refusal(status: int, body: bytes, retry_after_s: float | None, address: str) -> StreamingQueueError:
    """The error for a status other than 2xx with an unknown body, often from a proxy."""
    if 300 <= status < 400:
        remedy = "redirects are not followed: register the final address"
        return RemoteError(f"{address}: answered {status}, a redirect; {remedy}", retryable=False)
    said = f"{address}: answered {status}{excerpt(body)}"
    if status in (401, 403):
        return AuthError(f"{said}; check the agent's credential")
    if status == 429:
        return RateLimitedError(said, retry_after_s=retry_after_s)
    return RemoteError(said, retryable=status >= 500, retry_after_s=retry_after_s)


def reported_error(document: Any, retry_after_s: float | None, address: str) -> StreamingQueueError | None:
    """The error in a body like `{"error": <agent_error event>}`, as the same class; None for any other body."""
    event = document.get("error") if isinstance(document, dict) else None
    if not isinstance(event, dict) or (event.get("type") != ERROR and str(event.get("code")) not in ERRORS_BY_CODE):
        return None
    if event.get("retry_after_s") is None:
        event = {**event, "retry_after_s": retry_after_s}
    return error_from_event(event, address)


def excerpt(body: bytes) -> str:
    """The beginning of a peer's bytes, with control characters escaped for terminals."""
    return f": {body[:120].decode('utf-8', 'replace')!a}" if body else ""


def parse_retry_after(value: str | None) -> float | None:
    """Seconds to wait, from either form of Retry-After (RFC 9110, 10.2.3); None without a valid value."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
