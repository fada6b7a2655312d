"""The host half: an executor behind JSON-RPC, and the documents that describe it, as plain ASGI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Self

import orjson
from starlette.types import Scope, Send

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor
from streaming_queue.comm.host.admission import error_body
from streaming_queue.comm.host.asgi import cancelled_on_disconnect
from streaming_queue.comm.host.asgi_agent import GET, POST, AsgiAgent, RefusedError
from streaming_queue.comm.host.respond import EVENT_STREAM, send_end, send_json, send_stream
from streaming_queue.comm.jsonrpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    BadCallError,
    Call,
    CallId,
    decode_call,
    encode_error,
    encode_event,
    encode_result,
)
from streaming_queue.comm.payload import decode_payload
from streaming_queue.errors import ProtocolError, RateLimitedError, StreamingQueueError
from streaming_queue.messages import StreamEvent
from streaming_queue.protocol_backend.anp.description import (
    AD_PATH,
    ASK,
    CANCEL,
    INTERFACE_PATH,
    RPC_PATH,
    agent_description,
    interface,
)
from streaming_queue.protocol_backend.anp.gate import Caller, CallerGate, DeniedError, SignedRequest
from streaming_queue.protocol_backend.anp.identity import Identity


async def spawn(
    agent_id: str,
    host: str,
    port: int,
    executor: Executor,
    backend: BaseCommBackend,
    *,
    gate: CallerGate,
    identity: Callable[[int], Identity],
) -> AnpAgent:
    """Host `executor` by the options of `backend`; returns when it is ready. Raises like `comm.host.asgi.serve`.

    `identity` creates the agent's identity for its port. If `gate` knows all callers, other machines may reach the
    agent.
    """
    return await AnpAgent(agent_id, executor, backend, gate, identity).serve(host, port)


class AnpAgent(AsgiAgent):
    """A hosted agent (docs/protocols/anp.md). `identity` has its DID; it is None before the port is known."""

    remedy = "list the allowed callers in anp.trusted"
    identity: Identity | None = None

    def __init__(
        self,
        agent_id: str,
        executor: Executor,
        backend: BaseCommBackend,
        gate: CallerGate,
        make_identity: Callable[[int], Identity],
    ) -> None:
        super().__init__(agent_id, executor, backend)
        self._gate = gate
        self._make_identity = make_identity
        if not gate.trust.anyone:
            self._options = replace(self._options, allow_public=True)
        self._scheme = "https" if self._options.tls else "http"
        self.routes = {
            AD_PATH: (self._document, GET),
            INTERFACE_PATH: (self._document, GET),
            RPC_PATH: (self._rpc, POST),
        }

    async def serve(self, host: str, port: int) -> Self:
        """Serve; returns when the agent is ready, and has its identity. Raises like `comm.host.asgi.serve`."""
        await super().serve(host, port)
        self.identity = self._make_identity(self._server.port)
        self.routes[self.identity.path] = (self._document, GET)
        return self

    async def _document(self, scope: Scope, body: bytes, send: Send) -> None:
        """Send the agent's description, interface or DID document: every caller may read them."""
        del body
        identity, path = self.identity, scope["path"]
        if identity is None or (path == AD_PATH and not self._executions.ready):
            raise RefusedError(503, orjson.dumps({"status": "draining"}))
        base_url = f"{self._scheme}://{dict(scope['headers'])[b'host'].decode('latin-1')}"
        if path == AD_PATH:
            document = agent_description(self.agent_id, identity.did, base_url)
        elif path == INTERFACE_PATH:
            document = interface(self.agent_id, base_url)
        else:
            document = dict(identity.document)
        await send_json(send, 200, orjson.dumps(document))

    async def _rpc(self, scope: Scope, body: bytes, send: Send) -> None:
        try:
            caller = await self._gate.admit(self._signed(scope, body))
        except DeniedError as error:
            realm = self.identity.did if self.identity else self.agent_id
            raise RefusedError(401, error_body(error), *error.challenge(realm)) from error
        except RateLimitedError as error:
            later = (b"retry-after", b"%d" % (error.retry_after_s or 1))
            raise RefusedError(503, error_body(error), later) from error
        call_id = None
        failure: StreamingQueueError
        try:
            call = decode_call(body)
            call_id = call.call_id
            await self._answer(call, caller, scope, send)
            return
        except BadCallError as error:
            failure, call_id = error, error.call_id or call_id
        except ProtocolError as error:
            failure = BadCallError(INVALID_PARAMS, str(error))
        except StreamingQueueError as error:
            failure = error
        await send_json(send, 200, encode_error(call_id, failure), *caller.headers)

    def _signed(self, scope: Scope, body: bytes) -> SignedRequest:
        """The request as its caller signed it."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        target: bytes = scope["raw_path"]
        query: bytes = scope["query_string"]
        url = f"{self._scheme}://{headers['host']}{target.decode('latin-1')}"
        return SignedRequest(scope["method"], f"{url}?{query.decode('latin-1')}" if query else url, headers, body)

    async def _answer(self, call: Call, caller: Caller, scope: Scope, send: Send) -> None:
        call_id = call.call_id
        if call.method == CANCEL:
            key = call.params.get("idempotency_key")
            if not isinstance(key, str) or not key:
                raise BadCallError(INVALID_PARAMS, '"idempotency_key" must be a text', call_id)
            cancelled = await self._executions.cancel(key, principal=caller.did)
            await send_json(send, 200, encode_result(call_id, {"cancelled": cancelled}), *caller.headers)
            return
        if call.method != ASK:
            known = f"there are {ASK} and {CANCEL}"
            raise BadCallError(METHOD_NOT_FOUND, f"there is no method {call.method[:100]!r}; {known}", call_id)
        payload = decode_payload(call.params)
        streaming = EVENT_STREAM in dict(scope["headers"]).get(b"accept", b"")
        context = self._request(payload, principal=caller.did, streaming=streaming)
        with cancelled_on_disconnect(scope), self._executions.attach(context) as execution:
            if streaming:
                await send_stream(send, execution, lambda event: _event(call_id, event), *caller.headers)
            else:
                await send_end(send, execution, lambda end: (200, encode_event(call_id, end), ()), *caller.headers)


def _event(call_id: CallId, event: StreamEvent) -> bytes:
    """A server-sent event: a notification, or the response at the end."""
    return b"data: %b\n\n" % encode_event(call_id, event)
