"""The JSON envelope of Agora around every body (agoraprotocol.org, specification 6). No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from streaming_queue.comm import strict_json
from streaming_queue.comm.client.http import response_error
from streaming_queue.comm.payload import malformed
from streaming_queue.comm.strict_json import read_answer
from streaming_queue.comm.wire_errors import excerpt, reported_error
from streaming_queue.errors import ProtocolError, RemoteError

JSON = "application/json"
SUCCESS, FAILURE, REJECTED = "success", "failure", "rejected"
FAILURES = (FAILURE, "error")
"""The status words of a failure; Agora's own package writes `error`."""
NEGOTIATION = "negotiation"
"""The hash by which Agora's own package negotiates, in natural language."""


@dataclass(frozen=True, slots=True)
class AgoraRequest:
    """A request: `hash` is None for natural language. `body` is a text, or an object from some clients."""

    hash: str | None
    body: Any
    sources: tuple[str, ...] = ()
    multiround: bool = False


def encode_request(body: str, name: str | None = None, source: str | None = None) -> bytes:
    """A request by the document of this name, in natural language without one; `source` offers the document."""
    sources = [source] if source else []
    return orjson.dumps({"protocolHash": name, "protocolSources": sources if name else None, "body": body})


def decode_request(raw: bytes) -> AgoraRequest:
    """The request in an HTTP body, without its unknown members. Raises ProtocolError, not retryable."""
    try:
        document = strict_json.loads(raw)
    except ValueError as error:
        raise malformed(f"the request is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise malformed("the request must be a JSON object")
    name, body = document.get("protocolHash"), document.get("body")
    sources, multiround = document.get("protocolSources") or [], document.get("multiround") or False
    if name is not None and not isinstance(name, str):
        raise malformed('"protocolHash" must be a string or null')
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise malformed('"protocolSources" must be a list of strings, or null')
    if not isinstance(multiround, bool):
        raise malformed('"multiround" must be true or false')
    if not isinstance(body, str | dict):
        raise malformed('"body" must be a text, or an object')
    return AgoraRequest(name, body, tuple(sources), multiround)


def success(body: str) -> dict[str, Any]:
    """The response with a body."""
    return {"status": SUCCESS, "body": body}


def failure(reason: str, status: str = FAILURE) -> dict[str, Any]:
    """The response for a failure or a rejection. It has no body: some clients take any body for an answer."""
    return {"status": status, "error": reason}


def read_response(response: aiohttp.ClientResponse, raw: bytes, origin: str) -> dict[str, Any]:
    """Agora's response, a success or a rejection, in a body (`raw`); errors have the prefix `origin`.

    Raises:
        RemoteError: the peer reports a failure.
        ProtocolError: it is not a response of Agora: HTML, garbage, another status word, no body.
        AuthError, RateLimitedError, RemoteError: a status other than 2xx, from a host of ours or a proxy.
    """
    if not 200 <= response.status < 300:
        raise response_error(response, raw, origin)
    document = read_answer(raw, origin)
    if (error := reported_error(document, None, origin)) is not None:
        raise error
    word = document.get("status") if isinstance(document, dict) else None
    if isinstance(document, dict) and (word == REJECTED or (word == SUCCESS and "body" in document)):
        return document
    if isinstance(document, dict) and word in FAILURES:
        raise RemoteError(f"{origin}: answered {word}{reason_in(document)}")
    raise ProtocolError(f"{origin}: the answer is not an Agora response{excerpt(raw)}")


def reason_in(document: Mapping[str, Any]) -> str:
    """The peer's reason: `error` by the draft, `message` by Agora's own package."""
    said = document.get("error") or document.get("message") or document.get("body")
    return excerpt(said.encode("utf-8", "replace")) if isinstance(said, str) else ""
