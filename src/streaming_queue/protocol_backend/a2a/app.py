"""One hosted agent as an ASGI application: its card, the short path, the SDK's routes (docs/protocols/a2a.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson
from a2a.server.request_handlers.response_helpers import build_error_response
from a2a.server.routes import create_jsonrpc_routes, create_rest_routes
from a2a.utils.error_handlers import build_rest_error_payload
from a2a.utils.errors import A2AError, InvalidRequestError, VersionNotSupportedError
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from streaming_queue.comm import strict_json
from streaming_queue.comm.host.asgi import cancelled_on_disconnect, read_body
from streaming_queue.comm.host.respond import Header, send_json
from streaming_queue.errors import UnavailableError, error_event
from streaming_queue.protocol_backend.a2a.dialect import CARD_PATH, RPC_MEMBERS, V03, V1, VERSION_HEADER, known_version
from streaming_queue.protocol_backend.a2a.event_stream import plain_routes
from streaming_queue.protocol_backend.a2a.handler import AgentHandler, ContextBuilder
from streaming_queue.protocol_backend.a2a.native import NativeHandler
from streaming_queue.protocol_backend.a2a.own_card import CardDesk, Face
from streaming_queue.protocol_backend.a2a.short_path import encode, short_rest, short_rpc
from streaming_queue.telemetry.text import one_line

RETRY_AFTER_S = 5
"""The Retry-After of a host that takes no questions, in seconds: a restart or a replacement takes about so long."""

NAMED = 3
"""The most unknown members that an error names."""

_VERSION = VERSION_HEADER.lower().encode()
_RPC_PATH = "/"
_SHORT_PATHS = {_RPC_PATH: short_rpc, "/message:send": short_rest}


class A2AApp:
    """The application: `face` describes the agent, `handler` serves its messages."""

    def __init__(self, face: Face, handler: AgentHandler | NativeHandler) -> None:
        self._agent_id = face.agent_id
        self._handler = handler
        self._card = CardDesk(face)
        builder = ContextBuilder()
        self._sdk = Starlette(
            routes=plain_routes(
                [
                    *create_jsonrpc_routes(handler, _RPC_PATH, context_builder=builder, enable_v0_3_compat=True),
                    *create_rest_routes(handler, context_builder=builder, enable_v0_3_compat=True),
                ]
            )
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path, method = scope["path"], scope["method"]
        headers = dict(scope["headers"])
        if method == "POST":
            with cancelled_on_disconnect(scope):
                await self._post(scope, receive, send, headers)
        elif path == CARD_PATH and method in ("GET", "HEAD"):
            await self._serve_card(scope, send, headers)
        elif path == "/health":
            ready = self._handler.ready
            document = {"status": "ok" if ready else "draining", "agent_id": self._agent_id}
            await send_json(send, 200 if ready else 503, orjson.dumps(document))
        elif requested_version(scope, headers) is None:
            await send_json(send, *refusal(None, is_rpc=False))
        else:
            with cancelled_on_disconnect(scope):
                await self._sdk(scope, receive, send)

    async def _serve_card(self, scope: Scope, send: Send, headers: Mapping[bytes, bytes]) -> None:
        if not self._handler.ready:
            away = UnavailableError(f"agent {self._agent_id!r} takes no questions now: it drains, or is not ready")
            later = (b"retry-after", b"%d" % RETRY_AFTER_S)
            await send_json(send, 503, orjson.dumps({"error": error_event(away)}), later)
            return
        origin = f"{scope['scheme']}://{headers[b'host'].decode('latin-1')}"
        status, fields, body = self._card.response(origin, headers)
        await _respond(send, status, fields, body)

    async def _post(self, scope: Scope, receive: Receive, send: Send, headers: Mapping[bytes, bytes]) -> None:
        body = await read_body(receive)
        if body is None:
            return
        is_rpc, short_of = scope["path"] == _RPC_PATH, _SHORT_PATHS.get(scope["path"])
        try:
            document = strict_json.loads(body) if body or short_of else None
        except strict_json.OverBoundsError as error:
            wrong = InvalidRequestError(f"the body is over the limits: {error}")
            await send_json(send, *refused(wrong, is_rpc=is_rpc))
            return
        except ValueError:
            await send_json(send, *_unreadable(is_rpc=is_rpc))
            return
        if is_rpc and isinstance(document, dict) and (unknown := document.keys() - RPC_MEMBERS):
            wrong = InvalidRequestError(_unknown(unknown))
            await send_json(send, *refused(wrong, is_rpc=True, document=document))
            return
        version = requested_version(scope, headers)
        if short_of and version == V1.version and isinstance(self._handler, AgentHandler):
            short = short_of(document)
            if short is not None:
                principal = scope["state"].get("principal")
                end = await self._handler.answer(short.payload, short.message_id, short.context_id, principal)
                status, media_type, answer = encode(end, short)
                head = [(b"content-type", media_type), (b"content-length", b"%d" % len(answer))]
                await _respond(send, status, head, answer)
                return
        if not fits(version, document):
            await send_json(send, *refusal(document, is_rpc=is_rpc))
            return
        await self._sdk(scope, _replay(body, receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` for the SDK: the body again, then the following messages."""
    unread = True

    async def replayed() -> Message:
        nonlocal unread
        if unread:
            unread = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed


def _unreadable(*, is_rpc: bool) -> tuple[int, bytes]:
    said = "the body is not valid JSON, or has a key twice"
    if is_rpc:
        return 200, orjson.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": said}})
    return 400, orjson.dumps({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": said}})


def _unknown(members: Collection[str]) -> str:
    named = ", ".join(one_line(name, 40) for name in sorted(members)[:NAMED])
    return f"unknown members of a JSON-RPC request: {named}{' ...' if len(members) > NAMED else ''} ({len(members)})"


async def _respond(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# --- versions (specification 1.0, section 3.6) ---


def requested_version(scope: Scope, headers: Mapping[bytes, bytes]) -> str | None:
    """`"1.0"` or `"0.3"`, None for a version that we do not speak. No version, or an empty one, means 0.3.

    The version may be a query parameter instead of a header; then this function adds the header.
    """
    named = headers.get(_VERSION)
    if named is None and scope["query_string"]:
        parameters = parse_qs(scope["query_string"].decode("latin-1"))
        named = parameters.get(VERSION_HEADER, [""])[-1].encode("latin-1", "replace")
        scope["headers"] = [*scope["headers"], (_VERSION, named)]
    return known_version(named)


def fits(version: str | None, document: Any) -> bool:
    """Whether a JSON-RPC request has a method of this version: the methods of 0.3 have a slash in their names."""
    method = document.get("method") if isinstance(document, dict) else None
    return version is not None and not (version == V1.version and isinstance(method, str) and "/" in method)


def refusal(document: Any, *, is_rpc: bool) -> tuple[int, bytes]:
    """Status and body for a request in a version that we do not speak, or with a method of another version."""
    error = VersionNotSupportedError(
        f"this host speaks A2A {V1.version} and {V03.version}, each with its own methods: name your version in the "
        f"header {VERSION_HEADER}; no header means {V03.version}"
    )
    return refused(error, is_rpc=is_rpc, document=document)


def refused(error: A2AError, *, is_rpc: bool, document: Any = None) -> tuple[int, bytes]:
    """Status and body of an early refusal; `document` has the id of the request."""
    if is_rpc:
        request_id = document.get("id") if isinstance(document, dict) else None
        known = isinstance(request_id, str | int) and not isinstance(request_id, bool)
        return 200, orjson.dumps(build_error_response(request_id if known else None, error))
    failure = build_rest_error_payload(error)
    return failure["error"]["code"], orjson.dumps(failure)
