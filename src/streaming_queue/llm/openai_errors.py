"""The SDK's errors as ours. Importing this imports the SDK: only `llm.openai` does, once it is needed."""

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
"""Longest part of a provider's own message that is passed on, in characters."""
SHORTEST_SECRET = 8
"""A shorter key is a placeholder; hiding it would garble every message it happens to occur in."""

_KEY_LIKE = re.compile(r"\bsk-[\w*.-]{4,}")


@dataclass(frozen=True, slots=True)
class Translator:
    """Turns what the SDK raised for one server into our errors, without the key.

    `origin` is the server's address as a person may see it, `timeout_s` the silence allowed.
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
        """The error for an HTTP status; None is a failure reported in the middle of a stream."""
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
        told = f"{status} {phrase}".rstrip()
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return f"{told}: it redirects, and redirects are not followed; give the final address"
        if message:
            return f"{told}: {message}"
        if status == HTTPStatus.NOT_FOUND:
            return f"{told}: no chat completions there; the base URL usually ends in /v1"
        return told

    def redact(self, text: str) -> str:
        """`text` on one line, shortened, without the key and whatever looks like a part of one."""
        if self.api_key and len(self.api_key) >= SHORTEST_SECRET:
            text = text.replace(self.api_key, "[redacted]")
        text = " ".join(_KEY_LIKE.sub("[redacted]", text).split())
        return text if len(text) <= MESSAGE_LIMIT else f"{text[:MESSAGE_LIMIT]}..."


def provider_message(body: Any) -> str:
    """What the body of an error says to people; empty where it says nothing or is a web page."""
    if isinstance(body, str):
        return "" if body.lstrip().startswith("<") else body
    if not isinstance(body, Mapping):
        return ""
    for key in ("message", "detail", "error"):
        if told := body.get(key):
            return told if isinstance(told, str) else json.dumps(told, ensure_ascii=False, default=str)
    return json.dumps(body, ensure_ascii=False, default=str) if body else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `Retry-After-Ms` or `Retry-After` (RFC 9110, 10.2.3: seconds or a date); None: not told."""
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
