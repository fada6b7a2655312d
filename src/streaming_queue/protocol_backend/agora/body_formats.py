"""The formats of a hosted agent's messages: reading a body and writing an answer. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from streaming_queue.comm.payload import malformed
from streaming_queue.messages import MESSAGE, End
from streaming_queue.protocol_backend.agora import routine
from streaming_queue.protocol_backend.agora.document import HASH, HEX_HASH, QUESTION_ANSWER
from streaming_queue.protocol_backend.agora.envelope import NEGOTIATION, failure, success

PROPOSAL = f"""\
I speak by one protocol document, which needs no negotiation and cannot be changed. Take it as final, word for word; \
the base64 of its SHA-1 must be {HASH}. You may ask me in natural language as well.

{QUESTION_ANSWER}"""
FOLLOW = """\
The message below keeps to a protocol document. Reply as the document says, with the body of the reply and nothing else.

The protocol document:

{document}

The message:

{body}"""


class BodyFormat:
    """A format: it reads a body, and writes an answer as a body. This one is natural language."""

    proposal: str | None = None
    """The answer to each body, if the format does not ask the executor."""

    def read(self, body: Any) -> dict[str, Any]:
        """The payload in a body, or `{"cancel": key}`. Raises ProtocolError, not retryable, if it is neither."""
        if not isinstance(body, str):
            raise malformed("in natural language, the body must be a text")
        return {"text": body}

    def write(self, end: End) -> dict[str, Any]:
        """Agora's response for an execution's end. Raises TypeError if JSON cannot hold the end."""
        return success(end["data"]) if end["type"] == MESSAGE else failure(end["message"])


class QuestionAnswer(BodyFormat):
    """The format of our own document: its failures are replies (specification 10.3)."""

    def read(self, body: Any) -> dict[str, Any]:
        """A question with its context, or a cancel."""
        return routine.read_request(body)

    def write(self, end: End) -> dict[str, Any]:
        """An answer with its metadata, or a failure."""
        return success(routine.write_end(end))


class Followed(BodyFormat):
    """The format of another agent's document: the executor reads the document with each message, and replies by it."""

    def __init__(self, document: str) -> None:
        self._document = document

    def read(self, body: Any) -> dict[str, Any]:
        """The document and the message."""
        text = body if isinstance(body, str) else orjson.dumps(body).decode()
        return {"text": FOLLOW.format(document=self._document, body=text)}


class Proposal(BodyFormat):
    """The format of a proposal: a caller that proposes a document gets ours."""

    proposal = PROPOSAL


BODY_FORMATS: Mapping[str | None, BodyFormat] = {
    None: BodyFormat(),
    HASH: (_question_answer := QuestionAnswer()),
    HEX_HASH: _question_answer,
    NEGOTIATION: Proposal(),
}
"""The formats by the hash of a request."""
