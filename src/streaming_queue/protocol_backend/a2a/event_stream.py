"""Server-sent events without the SDK's own response, which leaves tasks behind in the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import orjson
from a2a.utils.error_handlers import build_rest_error_payload
from a2a.utils.errors import A2AError
from sse_starlette.event import ensure_bytes
from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from streaming_queue.comm.host.execution import HEARTBEAT_S
from streaming_queue.comm.host.respond import send_json

_HEARTBEAT = b": still at it\r\n\r\n"
_STREAM = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]

_NEW_LINES = {"\x85": b"\\u0085", "\u2028": b"\\u2028", "\u2029": b"\\u2029"}
"""Characters that end a line for some clients (Python's `splitlines`), and their escapes in JSON."""


class EventStream(Response):
    """The events of an `EventSourceResponse`, and a comment after each `HEARTBEAT_S` of silence.

    An error before the first event sets the response's status. If the peer disconnects, the caller cancels this
    response (`comm.host.asgi_protocol.cancelled_on_disconnect`).
    """

    def __init__(self, response: EventSourceResponse) -> None:
        super().__init__()
        self._separator = response.sep
        self._events: AsyncIterator[Any] = aiter(response.body_iterator)
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events."""
        del scope, receive
        following = asyncio.ensure_future(_following(self._events))
        try:
            while True:
                done, _ = await asyncio.wait({following}, timeout=HEARTBEAT_S)
                if not done:
                    await self._send(send, _HEARTBEAT)
                    continue
                event = following.result()
                if event is None:
                    break
                await self._send(send, _one_line(ensure_bytes(event, self._separator)))
                following = asyncio.ensure_future(_following(self._events))
        except A2AError as error:
            await self._fail(send, error)
            return
        finally:
            if not following.done():
                following.cancel()
                await asyncio.wait({following})
            close = getattr(self._events, "aclose", None)
            if close is not None:
                await close()
        await self._send(send, b"", more=False)

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": _STREAM})
        await send({"type": "http.response.body", "body": body, "more_body": more})

    async def _fail(self, send: Send, error: A2AError) -> None:
        payload = build_rest_error_payload(error)
        body = orjson.dumps(payload)
        if self._started:
            await self._send(send, b"event: error\r\ndata: %s\r\n\r\n" % body, more=False)
            return
        await send_json(send, payload["error"]["code"], body)


async def _following(events: AsyncIterator[Any]) -> Any:
    """The next event, None after the last."""
    return await anext(events, None)


def _one_line(event: bytes) -> bytes:
    for character, escaped in _NEW_LINES.items():
        event = event.replace(character.encode(), escaped)
    return event


def plain_routes(routes: Iterable[BaseRoute]) -> list[Route]:
    """The SDK's routes with `EventStream` for their streams; without the routes of tenants (`/{tenant}/...`)."""
    return [
        Route(route.path, _streaming(route.endpoint), methods=list(route.methods or ()))
        for route in routes
        if isinstance(route, Route)
    ]


def _streaming(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def served(request: Request) -> Response:
        response = await endpoint(request)
        return EventStream(response) if isinstance(response, EventSourceResponse) else response

    return served
