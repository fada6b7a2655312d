from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import ErrorObject
from unit.service.openai.shapes import shaped

from streaming_queue import errors
from streaming_queue.messages import Failure
from streaming_queue.service.openai import refusals
from streaming_queue.service.openai.refusals import (
    ConflictError,
    InvalidRequestError,
    NoAnswerError,
    NotFoundError,
    TooLargeError,
    UnprocessableError,
    UnsupportedMediaTypeError,
    failure_code,
    no_answer,
    refusal,
)

CLASSES = [
    *errors.ERRORS_BY_CODE.values(),
    refusals.ServiceError,
    *refusals.ServiceError.__subclasses__(),
    *InvalidRequestError.__subclasses__(),
]


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (errors.AuthError("x"), 401, "authentication_error", "auth"),
        (errors.RateLimitedError("x"), 429, "rate_limit_error", "rate_limited"),
        (errors.QuotaError("x"), 429, "insufficient_quota", "quota"),
        (errors.QueueFullError("x"), 429, "rate_limit_error", "queue_full"),
        (errors.DiskFullError("x"), 507, "server_error", "disk_full"),
        (errors.QueueInUseError("x"), 409, "invalid_request_error", "queue_in_use"),
        (errors.QueueClosedError("x"), 503, "server_error", "queue_closed"),
        (errors.UnknownAgentError("x"), 404, "invalid_request_error", "unknown_agent"),
        (errors.ConfigError("x"), 400, "invalid_request_error", "config"),
        (errors.SendTimeoutError("x"), 504, "server_error", "timeout"),
        (errors.UnavailableError("x"), 503, "server_error", "unavailable"),
        (errors.AgentFailedError("x"), 502, "server_error", "agent_failed"),
        (errors.BadResponseError("x"), 502, "server_error", "bad_response"),
        (errors.StreamingQueueError("x"), 500, "server_error", "internal"),
        (InvalidRequestError("x"), 400, "invalid_request_error", "invalid_request"),
        (UnprocessableError("x"), 422, "invalid_request_error", "unprocessable"),
        (NotFoundError("x"), 404, "invalid_request_error", "not_found"),
        (ConflictError("x"), 409, "invalid_request_error", "conflict"),
        (TooLargeError("x"), 413, "invalid_request_error", "too_large"),
        (UnsupportedMediaTypeError("x"), 415, "invalid_request_error", "unsupported_media_type"),
        (NoAnswerError("x"), 502, "server_error", "no_answer"),
        (InvalidRequestError("x", param="n", reason="unsupported_parameter"), 400, "invalid_request_error", "unsupported_parameter"),
    ],
)  # fmt: skip
def test_each_error_has_its_status(error: errors.StreamingQueueError, status: int, kind: str, code: str) -> None:
    answer = refusal(error)
    told = shaped(ErrorObject, answer.document["error"])
    assert (answer.status, told.type, told.code, told.message) == (status, kind, code, "x")
    assert told.param == getattr(error, "param", None)
    assert list(answer.document) == ["error"]
    assert list(answer.document["error"]) == ["message", "type", "param", "code"]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_has_an_envelope(cls: type[errors.StreamingQueueError]) -> None:
    answer = refusal(cls("why"))
    assert 400 <= answer.status < 600
    assert shaped(ErrorObject, answer.document["error"]).code == cls.code
    assert answer.headers["x-should-retry"] == ("true" if cls.retryable else "false")


def test_the_codes_of_requests_are_no_codes_of_wires() -> None:
    codes = [cls.code for cls in (refusals.ServiceError, *refusals.ServiceError.__subclasses__())]
    assert not set(codes) & set(errors.ERRORS_BY_CODE)


@pytest.mark.parametrize("error", [ValueError("password"), KeyError("password"), TimeoutError("password")])
def test_an_error_of_others_keeps_its_text(error: Exception) -> None:
    answer = refusal(error)
    assert answer.status == 500
    assert answer.document["error"]["code"] == "internal"
    assert "password" not in str(answer.document)


@given(st.none() | st.floats())
def test_any_wish_to_wait_gives_a_header_of_whole_seconds_or_none(wish: float | None) -> None:
    header = refusal(errors.RateLimitedError("x", retry_after_s=wish)).headers.get("retry-after")
    assert header is None or header.isdigit()


def test_a_wait_is_rounded_up() -> None:
    assert refusal(errors.RateLimitedError("x", retry_after_s=0.2)).headers == {
        "x-should-retry": "true",
        "retry-after": "1",
    }


@pytest.mark.parametrize(
    ("name", "code"), [("AuthError", "auth"), ("LLMTimeoutError", "llm_timeout"), ("ValueError", "internal")]
)
def test_a_dead_letter_is_no_fault_of_the_asker(name: str, code: str) -> None:
    failure = Failure(name, "why")
    answer = refusal(no_answer(failure))
    assert failure_code(failure) == code
    assert (answer.status, answer.document["error"]["code"]) == (502, code)
    assert answer.headers["x-should-retry"] == "false"
    assert "why" in answer.document["error"]["message"]
