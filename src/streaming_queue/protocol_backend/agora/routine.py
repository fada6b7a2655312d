"""The routine of our own document (question_answer.txt): it reads and writes bodies without a model. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from streaming_queue.comm import strict_json
from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.comm.payload import malformed
from streaming_queue.comm.strict_json import read_answer
from streaming_queue.comm.wire_errors import excerpt
from streaming_queue.errors import ConfigError, ProtocolError, error_from_event
from streaming_queue.messages import MESSAGE, End, Reply, payload_text


def text_of(payload: Mapping[str, Any]) -> str:
    """The text of a message. Raises ConfigError if it has no text, or other parts than text."""
    parts = payload.get("parts", ())
    if "text" not in payload and "parts" not in payload:
        raise ConfigError('a payload needs "text" or "parts"')
    if "text" not in payload and any(part.get("kind", "text") != "text" for part in parts):
        raise ConfigError("agora carries text only: all parts of a payload must have the kind text")
    return payload_text(payload)


def write_question(payload: Mapping[str, Any]) -> str:
    """The body for a message. Raises ConfigError like `text_of`, ProtocolError if JSON cannot hold it."""
    question: dict[str, Any] = {"text": text_of(payload)}
    if payload.get("metadata"):
        question["context"] = payload["metadata"]
    try:
        return orjson.dumps(question).decode()
    except TypeError as error:
        raise malformed(f"the payload cannot be sent as JSON: {error}") from error


def write_cancel(key: str) -> str:
    """The body that cancels the question with this idempotency key."""
    return orjson.dumps({"cancel": key}).decode()


def read_request(body: Any) -> dict[str, Any]:
    """The payload in a body, or `{"cancel": key}`. Raises ProtocolError, not retryable, if it is neither."""
    if isinstance(body, str):
        try:
            body = strict_json.loads(body.encode())
        except ValueError as error:
            raise malformed(f"the body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise malformed("the body must be a JSON object")
    if "cancel" in body:
        if not isinstance(body["cancel"], str) or not body["cancel"]:
            raise malformed('"cancel" must be an idempotency key')
        return {"cancel": body["cancel"]}
    text, context = body.get("text"), body.get("context")
    if not isinstance(text, str):
        raise malformed('"text" must be a string')
    if context is not None and not isinstance(context, dict):
        raise malformed('"context" must be an object')
    return {"text": text, "metadata": context} if context else {"text": text}


def write_end(end: End) -> str:
    """The body for an execution's end. Raises TypeError if JSON cannot hold the end."""
    if end["type"] != MESSAGE:
        return orjson.dumps({"failure": {key: value for key, value in end.items() if key != "type"}}).decode()
    answer: dict[str, Any] = {"answer": end["data"]}
    if metadata := end.get("metadata"):
        answer["metadata"] = metadata
    return orjson.dumps(answer).decode()


def write_cancelled(cancelled: bool) -> str:
    """The body of the answer to a cancel."""
    return orjson.dumps({"cancelled": cancelled}).decode()


def read_reply(body: Any, origin: str) -> dict[str, Any]:
    """The object in a reply's body: an answer or a failure by the document. Raises ProtocolError for any other."""
    said = body.encode() if isinstance(body, str) else b""
    document = read_answer(said, origin) if said else body
    if isinstance(document, dict) and isinstance(document.get("failure"), dict):
        return document
    if not isinstance(document, dict) or not isinstance(document.get("answer"), str):
        raise ProtocolError(f"{origin}: the reply does not follow our protocol document{excerpt(said)}")
    if not isinstance(document.get("metadata", {}), dict):
        raise ProtocolError(f'{origin}: the answer\'s "metadata" is not an object{excerpt(said)}')
    return document


def reply_of(document: Mapping[str, Any], raw: Any, origin: str) -> Reply:
    """The reply for an object from `read_reply`. Raises the object's failure as the same class, or ProtocolError."""
    if "answer" not in document:
        raise error_from_event(document["failure"], origin)
    AnswerMeter(origin).whole(document["answer"])
    reply = Reply(raw=raw, text=document["answer"])
    if document.get("metadata"):
        reply["metadata"] = document["metadata"]
    return reply
