"""The host half: an executor behind `/message`, `/cancel` and `/health`, as plain ASGI."""

from __future__ import annotations

import orjson
from starlette.types import Scope, Send

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor
from streaming_queue.comm.host.admission import error_body
from streaming_queue.comm.host.asgi import cancelled_on_disconnect
from streaming_queue.comm.host.asgi_agent import GET, POST, AsgiAgent
from streaming_queue.comm.host.respond import Answer, encode_or_fail, send_end, send_json, send_stream
from streaming_queue.comm.payload import decode_object
from streaming_queue.errors import ProtocolError, StreamingQueueError, error_event
from streaming_queue.protocol_backend.http.answers import encode_end, encode_event
from streaming_queue.protocol_backend.http.codec import NDJSON, decode_request

_NDJSON = NDJSON.encode()


async def spawn(agent_id: str, host: str, port: int, executor: Executor, backend: BaseCommBackend) -> HttpAgent:
    """Host `executor` by the options of `backend`; returns when it is ready. Raises like `comm.host.asgi.serve`."""
    return await HttpAgent(agent_id, executor, backend).serve(host, port)


class HttpAgent(AsgiAgent):
    """A hosted agent (docs/protocols/http.md)."""

    def __init__(self, agent_id: str, executor: Executor, backend: BaseCommBackend) -> None:
        super().__init__(agent_id, executor, backend)
        self.routes = {
            "/message": (self._message, POST),
            "/cancel": (self._cancel, POST),
            "/health": (self._health, GET),
        }

    def _failure(self, error: StreamingQueueError) -> Answer:
        if isinstance(error, ProtocolError):
            return 400, error_body(error), ()
        return encode_or_fail(encode_end, error_event(error))

    async def _message(self, scope: Scope, body: bytes, send: Send) -> None:
        headers = dict(scope["headers"])
        streaming = _NDJSON in headers.get(b"accept", b"")
        payload = decode_request(body, headers)
        context = self._request(payload, principal=scope["state"].get("principal"), streaming=streaming)
        with cancelled_on_disconnect(scope), self._executions.attach(context) as execution:
            if streaming:
                await send_stream(send, execution, encode_event, media_type=_NDJSON, heartbeat=b"\n")
            else:
                await send_end(send, execution, encode_end)

    async def _cancel(self, scope: Scope, body: bytes, send: Send) -> None:
        key = decode_object(body).get("idempotency_key")
        if not isinstance(key, str) or not key:
            raise ProtocolError('the body must have "idempotency_key"', retryable=False)
        cancelled = await self._executions.cancel(key, principal=scope["state"].get("principal"))
        await send_json(send, 200, orjson.dumps({"cancelled": cancelled}))
