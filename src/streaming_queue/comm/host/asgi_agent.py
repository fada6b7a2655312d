"""A hosted agent behind an ASGI server: its application, and its handle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import ClassVar, Self

import orjson
from starlette.types import Receive, Scope, Send

from streaming_queue.comm.host.admission import error_body
from streaming_queue.comm.host.agent import HostedAgent
from streaming_queue.comm.host.asgi import AsgiServer, read_body, serve
from streaming_queue.comm.host.listener import REMEDY
from streaming_queue.comm.host.respond import Answer, Header, send_json
from streaming_queue.errors import ConfigError, StreamingQueueError

GET, POST = ("GET", "HEAD"), ("POST",)

Route = tuple[Callable[[Scope, bytes, Send], Awaitable[None]], tuple[str, ...]]
"""A handler, which gets a request's scope and whole body, and the methods that its path takes."""


class RefusedError(Exception):
    """A request ends with this answer. A handler raises it before it sends the head of another answer."""

    def __init__(self, status: int, body: bytes, *headers: Header) -> None:
        super().__init__(status)
        self.answer: Answer = (status, body, headers)


class AsgiAgent(HostedAgent):
    """A hosted agent; a subclass names its routes, and how its protocol writes an error."""

    open_paths: ClassVar[Collection[str]] = ("/health",)
    base_path: ClassVar[str] = ""
    """The path of the agent's address."""
    remedy: ClassVar[str] = REMEDY
    """The remedy for an address that other machines reach without a credential."""
    routes: dict[str, Route]
    """The routes by path."""

    _server: AsgiServer

    async def serve(self, host: str, port: int) -> Self:
        """Serve; returns when the agent is ready. Raises like `comm.host.asgi.serve`."""
        self._server = await serve(
            self,
            host=host,
            port=port,
            options=self._options,
            name=str(self),
            open_paths=self.open_paths,
            error_body=self.error_body,
            remedy=self.remedy,
        )
        self.base_url = self._server.base_url + self.base_path
        return self

    async def _stop(self) -> None:
        await asyncio.gather(self._executions.aclose(self._options.limits.stop_s), self._server.stop())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; answer with an error that is raised before the answer's head."""
        try:
            handler = self._handler(scope["path"], scope["method"])
            body = await read_body(receive)
            if body is not None:
                await handler(scope, body, send)
            return
        except RefusedError as refused:
            status, body, headers = refused.answer
        except StreamingQueueError as error:
            status, body, headers = self._failure(error)
        await send_json(send, status, body, *headers)

    def error_body(self, error: StreamingQueueError) -> bytes:
        """The JSON of a request that the host refuses."""
        return error_body(error)

    def _handler(self, path: str, method: str) -> Callable[[Scope, bytes, Send], Awaitable[None]]:
        route = self._route(path)
        if route is None:
            known = ", ".join(self.routes)
            raise RefusedError(404, self._wrong(404, f"there is nothing at this path; known are {known}"))
        handler, methods = route
        if method not in methods and not (method == "HEAD" and "GET" in methods):
            allowed = ", ".join(methods)
            raise RefusedError(405, self._wrong(405, f"this path takes {allowed}"), (b"allow", allowed.encode()))
        return handler

    def _route(self, path: str) -> Route | None:
        return self.routes.get(path)

    def _wrong(self, status: int, text: str) -> bytes:
        """The body of an answer to a wrong path (404) or method (405)."""
        del status
        return error_body(ConfigError(text))

    def _failure(self, error: StreamingQueueError) -> Answer:
        """The answer to a request that a handler could not serve."""
        return 500, self.error_body(error), ()

    async def _health(self, scope: Scope, body: bytes, send: Send) -> None:
        del scope, body
        ready = self._executions.ready
        document = {"status": "ok" if ready else "draining", "agent_id": self.agent_id}
        await send_json(send, 200 if ready else 503, orjson.dumps(document))
