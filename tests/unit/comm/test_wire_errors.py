from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from streaming_queue.comm.wire_errors import excerpt, parse_retry_after, refusal, reported_error
from streaming_queue.errors import (
    AgentFailedError,
    AuthError,
    RateLimitedError,
    RemoteError,
    StreamingQueueError,
    error_event,
)


@pytest.mark.parametrize(
    ("status", "kind", "retryable", "wish_s"),
    [
        (300, RemoteError, False, None),
        (399, RemoteError, False, None),
        (400, RemoteError, False, 7.0),
        (401, AuthError, False, None),
        (403, AuthError, False, None),
        (404, RemoteError, False, 7.0),
        (429, RateLimitedError, True, 7.0),
        (499, RemoteError, False, 7.0),
        (500, RemoteError, True, 7.0),
        (503, RemoteError, True, 7.0),
        (299, RemoteError, False, 7.0),
    ],
)
def test_what_a_status_means(status: int, kind: type[Exception], retryable: bool, wish_s: float | None):
    error = refusal(status, b"down", 7.0, "http://peer")
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.retry_after_s == wish_s
    assert str(error).startswith(f"http://peer: answered {status}")
    assert ("'down'" in str(error)) == (status not in (300, 399))


@pytest.mark.parametrize(
    "error", [AgentFailedError("no"), RateLimitedError("slow", retry_after_s=3.0), AuthError("no")]
)
def test_an_error_in_a_body_is_the_same_class(error: StreamingQueueError):
    told = reported_error({"error": error_event(error)}, 7.0, "http://peer")
    assert type(told) is type(error)
    assert told.retry_after_s == (3.0 if error.retry_after_s else 7.0)
    assert str(told) == f"http://peer: {error}"


def test_an_error_in_a_body_needs_a_type_or_a_code_that_we_know():
    assert isinstance(reported_error({"error": {"type": "agent_error", "code": "?"}}, None, "a"), RemoteError)
    code = AgentFailedError.code
    assert isinstance(reported_error({"error": {"type": "?", "code": code}}, None, "a"), AgentFailedError)
    for document in (None, [], {}, {"error": None}, {"error": "no"}, {"error": {}}, {"error": {"code": "?"}}):
        assert reported_error(document, None, "a") is None


def test_an_excerpt_commands_no_terminal():
    assert excerpt(b"") == ""
    assert excerpt(b"\x1b[2J\xff" + b"a" * 200) == ": '\\x1b[2J\\ufffd" + "a" * 115 + "'"


# --- times ---


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("0", 0.0), ("17", 17.0), ("1234567890123", 123456789.0), ("-1", None), ("1.5", None), ("٣", None)],
)
def test_a_wish_in_seconds(value: str | None, seconds: float | None):
    assert parse_retry_after(value) == seconds


@pytest.mark.parametrize("zone", ["GMT", "-0000"])  # the second says that it has none (RFC 5322, 3.3)
def test_a_wish_as_a_date(zone: str):
    moment = datetime.now(UTC) + timedelta(seconds=600)
    told = parse_retry_after(format_datetime(moment, usegmt=True).replace("GMT", zone))
    assert told is not None
    assert 500 < told <= 600
    assert parse_retry_after(format_datetime(moment - timedelta(days=1), usegmt=True)) == 0.0
