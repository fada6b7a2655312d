"""Reads the requests of a caller strictly. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from streaming_queue.comm import strict_json
from streaming_queue.comm.context import HEADER_BY_KEY
from streaming_queue.comm.context_headers import read_context
from streaming_queue.comm.payload import malformed
from streaming_queue.protocol_backend.acp.codec import (
    ASYNC,
    RUN_ID,
    STREAM,
    SYNC,
    UnreadableError,
    messages_text,
    read_id,
)
from streaming_queue.protocol_backend.acp.sessions import requested_session

_NAMES = tuple((header, header.encode()) for header in HEADER_BY_KEY.values())
_RUN_ID = RUN_ID.lower().encode()
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A request for a run: its `messages`, and the agent's `payload` from the messages and the headers.

    `run_id` is the id that a client of ours gives the run; None without one.
    """

    agent_name: str
    mode: str
    messages: list[dict[str, Any]]
    payload: dict[str, Any]
    session_id: str | None
    session: Mapping[str, Any] | None
    run_id: str | None


def decode_run_request(body: bytes, headers: Mapping[bytes, bytes]) -> RunRequest:
    """The request in a body of any Content-Type. Raises ProtocolError, not retryable."""
    try:
        document = strict_json.loads(body)
        if not isinstance(document, dict):
            raise UnreadableError("it must be an object")
        text = messages_text(document.get("input"), text_only=True)
    except ValueError as error:
        raise malformed(f"the body is not a RunCreateRequest: {error}") from error
    name, mode, metadata = document.get("agent_name"), document.get("mode", SYNC), document.get("metadata")
    if not isinstance(name, str):
        raise malformed('the body must have "agent_name"')
    if mode not in (SYNC, ASYNC, STREAM):
        raise malformed(f'"mode" must be {SYNC}, {ASYNC} or {STREAM}')
    if text is None:
        raise malformed('"input" has no text')
    if metadata is not None and not isinstance(metadata, dict):
        raise malformed('"metadata" must be an object')
    payload: dict[str, Any] = {"text": text}
    texts = {name: headers[raw].decode("latin-1") for name, raw in _NAMES if raw in headers}
    if metadata or texts:
        payload["metadata"] = {**(metadata or {}), **read_context(texts)}
    session_id, session = requested_session(document)
    wished = headers.get(_RUN_ID)
    run_id = None if wished is None else read_id(wished.decode("latin-1"))
    return RunRequest(name, mode, document["input"], payload, session_id, session, run_id)


def page(query: bytes) -> tuple[int, int]:
    """Offset and limit in a query for a list. Raises ProtocolError, not retryable."""
    fields = parse_qs(query.decode("latin-1"))
    found = []
    for name, default in (("offset", 0), ("limit", _PAGE)):
        text = fields.get(name, [str(default)])[-1]
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise malformed(f"{name!r} must be a whole number")
        found.append(int(text))
    return found[0], found[1]
