"""Server-sent events without the tasks that the SDK's own response leaves behind in the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from sse_starlette.event import ensure_bytes
from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

HEARTBEAT_S = 15.0
_HEARTBEAT = b": still at it\r\n\r\n"


class EventStream(Response):
    """What an `EventSourceResponse` would send, and a comment after each `HEARTBEAT_S` of silence.

    The peer's leaving cancels it from outside (`comm.asgi.cancelled_on_disconnect`).
    """

    def __init__(self, response: EventSourceResponse) -> None:
        super().__init__(status_code=response.status_code, media_type="text/event-stream")
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"
        del self.headers["content-length"]
        self._separator = response.sep
        self._events: AsyncIterator[Any] = aiter(response.body_iterator)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events."""
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        following = asyncio.ensure_future(_following(self._events))
        try:
            while True:
                done, _ = await asyncio.wait({following}, timeout=HEARTBEAT_S)
                if not done:
                    await send({"type": "http.response.body", "body": _HEARTBEAT, "more_body": True})
                    continue
                event = following.result()
                if event is None:
                    break
                body = ensure_bytes(event, self._separator)
                await send({"type": "http.response.body", "body": body, "more_body": True})
                following = asyncio.ensure_future(_following(self._events))
        finally:
            if not following.done():
                following.cancel()
                await asyncio.wait({following})
            close = getattr(self._events, "aclose", None)
            if close is not None:
                await close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _following(events: AsyncIterator[Any]) -> Any:
    """The next event, None after the last."""
    return await anext(events, None)


def plain_routes(routes: Iterable[BaseRoute]) -> list[Route]:
    """The SDK's routes, their streams sent by `EventStream`; tenants (`/{tenant}/...`) are not served."""
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
