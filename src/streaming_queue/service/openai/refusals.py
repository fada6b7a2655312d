"""Refusals as a client of OpenAI reads them: the typed errors of a request, and the envelope of each error. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from streaming_queue.errors import (
    ERRORS_BY_CODE,
    AuthError,
    BackendClosedError,
    CommError,
    ConfigError,
    ConnectError,
    DiskFullError,
    LeaseLostError,
    LLMError,
    LLMTimeoutError,
    QueueClosedError,
    QueueFullError,
    QueueInUseError,
    QueueStalledError,
    QuotaError,
    RateLimitedError,
    RunClosedError,
    SendTimeoutError,
    StreamingQueueError,
    UnknownAgentError,
    UnknownRunError,
    UnreachableError,
)
from streaming_queue.messages import Failure


class ServiceError(StreamingQueueError):
    """A request is refused with `status` and OpenAI's word for the `kind` of error.

    `param` names the part of the request, None where it is the whole. `reason` is the machine-readable code of the
    refusal; by default it is the code of the class.
    """

    code = "service"
    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"

    def __init__(self, message: str = "", *, param: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.reason = reason or self.code


class InvalidRequestError(ServiceError):
    """The request is not valid, or asks for what an agent behind a queue cannot do (400)."""

    code = "invalid_request"
    status = 400
    kind = "invalid_request_error"


class UnprocessableError(InvalidRequestError):
    """The request is valid, and what it names cannot be used for it (422)."""

    code = "unprocessable"
    status = 422


class NotFoundError(InvalidRequestError, LookupError):
    """The service has no object with this id (404)."""

    code = "not_found"
    status = 404


class ConflictError(InvalidRequestError):
    """The state of the object does not allow this (409)."""

    code = "conflict"
    status = 409


class TooLargeError(InvalidRequestError):
    """The request, or the question in it, is larger than allowed (413)."""

    code = "too_large"
    status = 413


class UnsupportedMediaTypeError(InvalidRequestError):
    """The body of the request has a type that the service does not read (415)."""

    code = "unsupported_media_type"
    status = 415


class NoAnswerError(ServiceError):
    """The question became a dead letter: it has no answer, and the service has tried all it may (502)."""

    code = "no_answer"
    status = 502


_STATUSES: tuple[tuple[type[StreamingQueueError], int, str], ...] = (
    # A subclass stands before its base.
    (AuthError, 401, "authentication_error"),
    (QuotaError, 429, "insufficient_quota"),
    (RateLimitedError, 429, "rate_limit_error"),
    (DiskFullError, 507, "server_error"),
    (QueueFullError, 429, "rate_limit_error"),
    (QueueInUseError, 409, "invalid_request_error"),
    (UnknownRunError, 404, "invalid_request_error"),
    (RunClosedError, 409, "invalid_request_error"),
    (LeaseLostError, 409, "invalid_request_error"),
    (QueueClosedError, 503, "server_error"),
    (QueueStalledError, 503, "server_error"),
    (BackendClosedError, 503, "server_error"),
    (UnknownAgentError, 404, "invalid_request_error"),
    (UnreachableError, 403, "invalid_request_error"),
    (ConfigError, 400, "invalid_request_error"),
    (SendTimeoutError, 504, "server_error"),
    (LLMTimeoutError, 504, "server_error"),
    (ConnectError, 503, "server_error"),
    (CommError, 502, "server_error"),
    (LLMError, 502, "server_error"),
)
_CODES = {cls.__name__: code for code, cls in ERRORS_BY_CODE.items()}
_SECRETIVE = "the service failed on this request; its log has the reason"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer of HTTP to a failed request: its status, its headers beyond the type, and its JSON document."""

    status: int
    headers: Mapping[str, str]
    document: dict[str, Any]


def refusal(error: BaseException) -> Refusal:
    """The refusal that tells `error`; it never raises.

    An exception that is not ours becomes 500 and keeps its text to itself: it may hold secrets. `retry-after` is in
    whole seconds, rounded up. `x-should-retry` tells OpenAI's clients whether to send the request again: without it
    they repeat each 409, 429 and 5xx, and so ask a question twice that failed for good.
    """
    status, kind = _status(error)
    headers = {"x-should-retry": "true" if getattr(error, "retryable", False) is True else "false"}
    wait_s = getattr(error, "retry_after_s", None)
    if isinstance(wait_s, int | float) and math.isfinite(wait_s) and wait_s >= 0:
        headers["retry-after"] = str(math.ceil(wait_s))
    return Refusal(status, headers, envelope(error, kind))


def envelope(error: BaseException, kind: str | None = None) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`: the body of a refusal, and an event that ends a stream."""
    ours = isinstance(error, StreamingQueueError)
    return {
        "error": {
            "message": str(error) if ours else _SECRETIVE,
            "type": kind or _status(error)[1],
            "param": error.param if isinstance(error, ServiceError) else None,
            "code": error_code(error),
        }
    }


def error_code(error: BaseException) -> str:
    """The machine-readable code of an error; `internal` for an exception that is not ours."""
    if isinstance(error, ServiceError):
        return error.reason
    return error.code if isinstance(error, StreamingQueueError) else StreamingQueueError.code


def no_answer(failure: Failure) -> NoAnswerError:
    """The error for the asker of a question that became a dead letter. Its `reason` is the code of the failure.

    Its status is 502 whatever the failure was: a worker that refuses *our* credential is no 401 of the asker.
    """
    return NoAnswerError(f"no worker could answer: {failure.message}", reason=failure_code(failure))


def failure_code(failure: Failure) -> str:
    """The code of the error class that a failure names; `internal` for a class that is not ours."""
    return _CODES.get(failure.type, StreamingQueueError.code)


def _status(error: BaseException) -> tuple[int, str]:
    if isinstance(error, ServiceError):
        return error.status, error.kind
    return next(((status, kind) for cls, status, kind in _STATUSES if isinstance(error, cls)), (500, "server_error"))
