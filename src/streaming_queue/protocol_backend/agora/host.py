"""The host half: an executor behind `POST /`, conversations and a list of documents, as plain ASGI."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import orjson
from starlette.types import Scope, Send

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor
from streaming_queue.comm.host.asgi import cancelled_on_disconnect
from streaming_queue.comm.host.asgi_agent import GET, POST, AsgiAgent, RefusedError, Route
from streaming_queue.comm.host.idempotency_cache import ExpiringCache
from streaming_queue.comm.host.respond import Answer, send_end, send_json
from streaming_queue.errors import ProtocolError, StreamingQueueError, UnavailableError, error_event
from streaming_queue.messages import End
from streaming_queue.protocol_backend.agora import routine
from streaming_queue.protocol_backend.agora.body_formats import BODY_FORMATS, BodyFormat, Followed
from streaming_queue.protocol_backend.agora.document import HASH, SOURCE
from streaming_queue.protocol_backend.agora.envelope import (
    REJECTED,
    SUCCESS,
    AgoraRequest,
    decode_request,
    failure,
    success,
)
from streaming_queue.protocol_backend.agora.peer import AGENT_ID_HEADER, LISTINGS
from streaming_queue.protocol_backend.agora.sources import Sources

_LISTING = orjson.dumps({HASH: [SOURCE]})
_LISTING_PATHS = tuple(f"/{path}" for path in LISTINGS)
_CONVERSATIONS = "/conversations/"

CONVERSATION_S = 300.0
MAX_CONVERSATIONS = 4096
"""The most conversations that an agent keeps; the oldest one ends first."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Several messages of one principal (specification 7) with the same hash and format. `expires` is Unix time."""

    hash: str | None
    body_format: BodyFormat
    principal: str | None
    expires: float = field(default_factory=lambda: time.time() + CONVERSATION_S)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def members(self) -> dict[str, Any]:
        """The JSON members of each response in the conversation."""
        return {"conversationId": self.id, "conversationExpires": int(self.expires)}


async def spawn(
    agent_id: str, host: str, port: int, executor: Executor, backend: BaseCommBackend, *, sources: Sources
) -> AgoraAgent:
    """Host `executor` by the options of `backend`; returns when it is ready. Raises like `comm.host.asgi.serve`."""
    return await AgoraAgent(agent_id, executor, backend, sources).serve(host, port)


class AgoraAgent(AsgiAgent):
    """A hosted agent (docs/protocols/agora.md)."""

    open_paths = _LISTING_PATHS

    def __init__(self, agent_id: str, executor: Executor, backend: BaseCommBackend, sources: Sources) -> None:
        super().__init__(agent_id, executor, backend)
        limits = self._options.limits  # the question is JSON within JSON, and so up to twice as long
        self._options = replace(self._options, limits=replace(limits, body_bytes=2 * limits.body_bytes))
        self._sources = sources
        self.conversations = ExpiringCache[str, Conversation](MAX_CONVERSATIONS, kept_s=CONVERSATION_S)
        self.routes = {
            "/": (self._open, POST),
            _CONVERSATIONS: (self._continue, (*POST, "DELETE")),
            **dict.fromkeys(_LISTING_PATHS, (self._list, GET)),
        }

    async def _stop(self) -> None:
        await asyncio.gather(super()._stop(), self._sources.aclose())

    def _route(self, path: str) -> Route | None:
        return super()._route(_CONVERSATIONS if path.startswith(_CONVERSATIONS) else path)

    def _wrong(self, status: int, text: str) -> bytes:
        del status
        return orjson.dumps(failure(text))

    def _failure(self, error: StreamingQueueError) -> Answer:
        if isinstance(error, ProtocolError):
            return 400, orjson.dumps(failure(str(error))), ()
        return super()._failure(error)

    async def _list(self, scope: Scope, body: bytes, send: Send) -> None:
        del scope, body
        status, listing = 200, _LISTING
        if not self._executions.ready:
            about_to_stop = f"agent {self.agent_id!r} takes no questions: it is not ready, or drains"
            status, listing = 503, self.error_body(UnavailableError(about_to_stop))
        await send_json(send, status, listing, (AGENT_ID_HEADER.encode(), quote(self.agent_id).encode()))

    async def _open(self, scope: Scope, body: bytes, send: Send) -> None:
        request = decode_request(body)
        body_format = await self._body_format(request)
        if body_format is None:
            reason = "Unsupported protocol: it is not ours, and no allowed source has it"
            raise RefusedError(200, orjson.dumps(failure(reason, REJECTED)))
        conversation = None
        if request.multiround:
            conversation = Conversation(request.hash, body_format, scope["state"].get("principal"))
            self.conversations.put(conversation.id, conversation)
        await self._answer(request.body, body_format, conversation, scope, send)

    async def _body_format(self, request: AgoraRequest) -> BodyFormat | None:
        """The format of the request; None if we do not know it."""
        body_format = BODY_FORMATS.get(request.hash)
        if body_format is None and request.hash is not None:
            document = await self._sources.find(request.hash, request.sources)
            body_format = None if document is None else Followed(document)
        return body_format

    async def _continue(self, scope: Scope, body: bytes, send: Send) -> None:
        conversation = self.conversations.get(scope["path"].removeprefix(_CONVERSATIONS))
        if conversation is not None and conversation.principal != scope["state"].get("principal"):
            conversation = None
        if scope["method"] == "DELETE":
            if conversation is not None:
                self.conversations.pop(conversation.id)
            await send_json(send, 200, orjson.dumps({"status": SUCCESS}))
            return
        if conversation is None:
            raise RefusedError(404, orjson.dumps(failure("there is no such conversation, or it has ended")))
        request = decode_request(body)
        if request.hash not in (None, conversation.hash):
            raise ProtocolError("a conversation keeps the protocol it began with", retryable=False)
        await self._answer(request.body, conversation.body_format, conversation, scope, send)

    async def _answer(
        self,
        body: Any,
        body_format: BodyFormat,
        conversation: Conversation | None,
        scope: Scope,
        send: Send,
    ) -> None:
        principal = scope["state"].get("principal")
        context_id, rounds = (None, {}) if conversation is None else (conversation.id, conversation.members)

        def encode(end: End) -> Answer:
            return 200, orjson.dumps(body_format.write(end) | rounds), ()

        response: Mapping[str, Any]
        try:
            if body_format.proposal is not None:
                response = success(body_format.proposal)
            elif (key := (payload := body_format.read(body)).get("cancel")) is not None:
                response = success(routine.write_cancelled(await self._executions.cancel(key, principal=principal)))
            else:
                context = self._request(payload, principal=principal, context_id=context_id)
                with cancelled_on_disconnect(scope), self._executions.attach(context) as execution:
                    await send_end(send, execution, encode)
                return
        except StreamingQueueError as error:
            response = body_format.write(error_event(error))
        await send_json(send, 200, orjson.dumps({**response, **rounds}))
