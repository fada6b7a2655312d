"""ACP's messages, runs and events (the specification's schemas, 0.2). No I/O."""

from __future__ import annotations

import base64
import itertools
import re
import uuid
from collections.abc import Mapping
from typing import Any

import orjson

from streaming_queue.comm.payload import encode_payload, malformed
from streaming_queue.comm.strict_json import read_answer
from streaming_queue.comm.wire_errors import excerpt
from streaming_queue.errors import ProtocolError
from streaming_queue.messages import payload_text

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
RUN_ID = "Run-ID"
"""The header with the run's id: in the response that begins the run, and between our own ends in the request."""
CALL_EXTENSION = "streaming-queue.call"
"""The annotation in the manifest of our hosts (docs/protocols/acp.md, "Between our own ends")."""
USER = "user"

SYNC, ASYNC, STREAM = "sync", "async", "stream"
CREATED, IN_PROGRESS, AWAITING, CANCELLING = "created", "in-progress", "awaiting", "cancelling"
CANCELLED, COMPLETED, FAILED = "cancelled", "completed", "failed"
UNDER_WAY = frozenset({CREATED, IN_PROGRESS, CANCELLING})

_NO_NAME = re.compile(r"[^a-z0-9]+")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ids = (f"{prefix}{number:012x}" for prefix in [str(uuid.uuid4())[:24]] for number in itertools.count(1))


class UnreadableError(ValueError):
    """The document does not follow the specification; the text says why."""


def agent_name(agent_id: str) -> str:
    """The name of an agent in ACP: its id as a DNS label (RFC 1123, 2.1), by the specification."""
    return _NO_NAME.sub("-", agent_id.lower())[:63].strip("-") or "agent"


def message(text: str, role: str = USER) -> dict[str, Any]:
    """A message with one text."""
    return {"role": role, "parts": [{"content_type": "text/plain", "content": text, "content_encoding": "plain"}]}


def part_text(part: Any) -> str | None:
    """The text of a message's part, None if it is not text. Raises UnreadableError if it is not a part."""
    if not isinstance(part, Mapping):
        raise UnreadableError("a part of a message must be an object")
    content, kind = part.get("content"), part.get("content_type") or "text/plain"
    if content is None or not isinstance(kind, str) or not kind.startswith("text/"):
        return None
    if not isinstance(content, str):
        raise UnreadableError("the content of a part must be a string")
    if part.get("content_encoding") != "base64":
        return content
    try:
        return base64.b64decode(content, validate=True).decode()
    except ValueError as error:
        raise UnreadableError(f"the content of a part is not text in base64: {error}") from error


def messages_text(messages: Any, *, text_only: bool = False) -> str | None:
    """The text of messages, joined by line ends; parts of one message are joined without. None without any text.

    Raises UnreadableError if they are not messages or, with `text_only`, have other content than text.
    """
    if not isinstance(messages, list):
        raise UnreadableError("messages must be a list")
    texts = []
    for item in messages:
        parts = item.get("parts") if isinstance(item, Mapping) else None
        if not isinstance(parts, list):
            raise UnreadableError("a message must be an object with a list of parts")
        pieces = []
        for part in parts:
            if (text := part_text(part)) is not None:
                pieces.append(text)
            elif text_only and not _is_remark(part):
                raise UnreadableError("this agent takes text only, and fetches no URLs")
        if pieces:
            texts.append("".join(pieces))
    return "\n".join(texts) if texts else None


def _is_remark(part: Mapping[str, Any]) -> bool:
    """Whether a part is metadata, not content of the message: a citation, a trajectory."""
    return part.get("content") is None and part.get("content_url") is None


def encode_run_request(name: str, payload: Mapping[str, Any], rest: Mapping[str, Any], mode: str) -> bytes:
    """The body that begins a run; `rest` is the metadata without a header.

    Raises:
        ConfigError: the payload has neither text nor parts.
        ProtocolError: JSON cannot hold it; not retryable.
    """
    encode_payload(payload)
    if not isinstance(payload.get("text", ""), str):
        raise malformed('"text" must be a string')
    document: dict[str, Any] = {"agent_name": name, "input": [message(payload_text(payload))], "mode": mode}
    if rest:
        document["metadata"] = rest
    try:
        return orjson.dumps(document)
    except TypeError as error:
        raise malformed(f"the payload cannot be sent as JSON: {error}") from error


def decode_object(body: bytes, address: str) -> dict[str, Any]:
    """The JSON object from a peer. Raises ProtocolError."""
    document = read_answer(body, address)
    if not isinstance(document, dict):
        what = "not a JSON object" if body else "empty"
        raise ProtocolError(f"{address}: the body of the answer is {what}{excerpt(body)}")
    return document


def new_id() -> str:
    """A UUID for a run. The ids of one process have the same prefix: a random UUID for each costs more CPU."""
    return next(_ids)


def read_id(value: object) -> str | None:
    """The id of a run or a session in ACP's form, a UUID in lower case; None if it is not a UUID."""
    text = value.lower() if isinstance(value, str) else ""
    return text if _UUID.fullmatch(text) else None
