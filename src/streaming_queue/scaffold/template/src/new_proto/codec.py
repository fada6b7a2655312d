"""The wire: lines of UTF-8 over TCP, a connection for each message. No I/O.

A caller sends `ping`, or a message as JSON; while it waits for the answer it may send `cancel`. The host answers a ping
with `pong` (`draining` if it takes no questions), and a message with events as JSON; the last event is the answer or
the error. An empty line is a heartbeat: the agent is working.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streaming_queue.comm import strict_json
from streaming_queue.comm.payload import decode_payload, encode_payload, malformed
from streaming_queue.errors import AgentFailedError, ProtocolError, error_event, error_from_event
from streaming_queue.messages import ERROR, StreamEvent, TextEvent, is_event

PING, PONG, DRAINING, CANCEL, HEARTBEAT = b"ping\n", b"pong\n", b"draining\n", b"cancel\n", b"\n"


@dataclass(frozen=True, slots=True)
class Message:
    """A payload with its metadata and the caller's credential. `streaming`: the caller reads pieces of the answer."""

    payload: Mapping[str, Any]
    streaming: bool
    credential: str | None


# TODO: the form of a message in your protocol, with metadata and credential.
def encode_message(message: Message) -> bytes:
    """A line. Raises ConfigError without text and parts, ProtocolError if JSON cannot hold it."""
    document = {**encode_payload(message.payload), "stream": message.streaming}
    if metadata := message.payload.get("metadata"):
        document["metadata"] = metadata
    if message.credential is not None:
        document["credential"] = message.credential
    return _encode(document)


def decode_message(line: bytes) -> Message:
    """The message in a line. Raises ProtocolError, not retryable, if there is none."""
    document = _decode(line)
    credential = document.get("credential")
    known = credential if isinstance(credential, str) else None
    return Message(decode_payload(document), document.get("stream") is True, known)


# TODO: the form of an event in your protocol: a piece, a status, the answer, the error.
def encode_event(event: StreamEvent) -> bytes:
    """A line; an event that JSON cannot hold becomes a failure of the agent."""
    try:
        return _encode(event)
    except ProtocolError as error:
        return _encode(error_event(AgentFailedError(f"the agent's event cannot be sent: {error}")))


def decode_event(line: bytes, origin: str) -> TextEvent:
    """The event in a line. Raises an agent's error as its class, and ProtocolError if the line is not an event.

    `origin` names the sender in errors.
    """
    event = strict_json.read_answer(line, origin)
    if isinstance(event, dict) and event.get("type") == ERROR:
        raise error_from_event(event, origin)
    if not is_event(event):
        raise ProtocolError(f"{origin}: this is not an event: {line[:120]!r}")
    return event


def _encode(document: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise malformed(f"JSON cannot hold it: {error}") from error


def _decode(line: bytes) -> dict[str, Any]:
    try:
        document = strict_json.loads(line.removesuffix(b"\n"))
    except ValueError as error:
        raise malformed(f"this is not JSON: {line[:120]!r}") from error
    if not isinstance(document, dict):
        raise malformed(f"this is not a JSON object: {line[:120]!r}")
    return document
