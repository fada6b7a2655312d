"""The SDK's errors as ours. Importing this imports the SDK: only `llm.openai` does, at its first use."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import openai

from streaming_queue.errors import (
    AuthError,
    LLMError,
    LLMTimeoutError,
    QuotaError,
    RateLimitedError,
    StreamingQueueError,
)

QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
RATE_CODES = frozenset({"rate_limit_exceeded"})
MESSAGE_LIMIT = 500
"""Longest part of a provider's own message in ours, in characters."""
SHORTEST_SECRET = 8
"""A shorter key is a placeholder, and its removal would garble messages."""

_KEY_LIKE = re.compile(r"\bsk-[\w*.-]{4,}")


@dataclass(frozen=True, slots=True)
class Translator:
    """Turns the SDK's errors for one server into ours, without the key.

    `origin` is the server's address without credentials, `timeout_s` the allowed silence.
    """

    origin: str
    timeout_s: float
    api_key: str | None = field(default=None, repr=False)

    def translate(self, error: openai.OpenAIError) -> StreamingQueueError:
        """The error to raise in place of `error`."""
        if isinstance(error, openai.APITimeoutError):
            kind = type(error.__cause__).__name__
            return LLMTimeoutError(f"{self.origin}: silent for too long ({kind}; core.timeout_s is {self.timeout_s:g})")
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            reason = self.redact(str(cause) or type(cause).__name__)
            return LLMError(f"{self.origin}: the connection failed: {reason}")
        if isinstance(error, openai.APIStatusError):
            return self._by_status(error.status_code, error, error.response.headers)
        if isinstance(error, openai.APIError):
            status = int(error.code) if error.code and re.fullmatch(r"[3-5]\d\d", error.code) else None
            return self._by_status(status, error, {})
        return LLMError(f"{self.origin}: {self.redact(str(error))}", retryable=False)

    def _by_status(self, status: int | None, error: openai.APIError, headers: Mapping[str, str]) -> StreamingQueueError:
        """The error for an HTTP status; None is a failure in the middle of a stream."""
        text = f"{self.origin}: {self._reason(status, error)}"
        retry_after_s = retry_after(headers)
        codes = {code for code in (error.code, error.type) if isinstance(code, str)}
        if status == HTTPStatus.PAYMENT_REQUIRED or codes & QUOTA_CODES:
            return QuotaError(text)
        if status == HTTPStatus.TOO_MANY_REQUESTS or codes & RATE_CODES:
            return RateLimitedError(text, retry_after_s=retry_after_s)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return AuthError(text)
        if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT):
            return LLMTimeoutError(text, retry_after_s=retry_after_s)
        retryable = status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.CONFLICT
        return LLMError(text, retryable=retryable, retry_after_s=retry_after_s)

    def _reason(self, status: int | None, error: openai.APIError) -> str:
        message = self.redact(provider_message(error.body))
        if status is None:
            return f"the stream reported a failure: {message or self.redact(error.message)}"
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
        heading = f"{status} {phrase}".rstrip()
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return f"{heading}: it redirects, and redirects are not followed; give the final address"
        if message:
            return f"{heading}: {message}"
        if status == HTTPStatus.NOT_FOUND:
            return f"{heading}: no chat completions there; the base URL usually ends in /v1"
        return heading

    def redact(self, text: str) -> str:
        """`text` on one line, shortened, without the key and without parts that look like a key."""
        if self.api_key and len(self.api_key) >= SHORTEST_SECRET:
            text = text.replace(self.api_key, "[redacted]")
        text = " ".join(_KEY_LIKE.sub("[redacted]", text).split())
        return text if len(text) <= MESSAGE_LIMIT else f"{text[:MESSAGE_LIMIT]}..."


def provider_message(body: Any) -> str:
    """The message in the body of an error; empty if there is none or if the body is a web page."""
    if isinstance(body, str):
        return "" if body.lstrip().startswith("<") else body
    if not isinstance(body, Mapping):
        return ""
    for key in ("message", "detail", "error"):
        if message := body.get(key):
            return message if isinstance(message, str) else json.dumps(message, ensure_ascii=False, default=str)
    return json.dumps(body, ensure_ascii=False, default=str) if body else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `Retry-After-Ms` or `Retry-After` (RFC 9110, 10.2.3: seconds or a date), else None."""
    for header, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            delay_s = float(headers.get(header, "")) * unit_s
        except ValueError:
            continue
        if math.isfinite(delay_s) and delay_s >= 0:
            return delay_s
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())
