"""The control endpoint of a live run: HTTP on loopback, for every process that can read the run's lock file."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.types import Receive, Scope, Send

from streaming_queue.comm.base import HostLimits, HostOptions
from streaming_queue.comm.host.asgi import read_body, serve
from streaming_queue.control.base import RunControl
from streaming_queue.control.commands import COMMANDS, read_arguments
from streaming_queue.errors import ConfigError, ProtocolError, QueueError, StreamingQueueError, error_event
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.telemetry.json_lines import encode

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
LIMITS = HostLimits(connections=64, stop_s=2.0)


@asynccontextmanager
async def serve_control(control: RunControl, queue: SQLiteQueue) -> AsyncIterator[None]:
    """Serve `control` inside the context; its address and token are in the lock file of `queue`.

    Raises:
        ConfigError, QueueError: the control cannot be served, or the lock file cannot be written.
    """
    token = secrets.token_urlsafe(32)

    async def authenticate(credential: str) -> str | None:
        return "control" if secrets.compare_digest(credential.encode(), token.encode()) else None

    options = HostOptions(authenticator=authenticate, limits=LIMITS)
    server = await serve(ControlApp(control), host=HOST, port=0, options=options, name="control", open_paths=())
    try:
        await queue.announce({"address": server.base_url, "token": token})
        try:
            yield
        finally:
            with suppress(QueueError):  # a queue that closed itself has released its lock and raised the reason
                await queue.announce(None)
    finally:
        await server.stop()


class ControlApp:
    """The ASGI application (`commands`)."""

    def __init__(self, control: RunControl) -> None:
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one command."""
        status, document = await self._answer(scope, receive)
        body = encode(document)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if status == 405:
            headers.append((b"allow", b"POST"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, object]:
        command = scope["path"].removeprefix("/")
        if command not in COMMANDS:
            known = ", ".join(COMMANDS)
            return 404, _error(ConfigError(f"this run knows no command {command[:100]!r}; it knows {known}"))
        if scope["method"] != "POST":
            return 405, _error(ConfigError("a command is a POST"))
        body = await read_body(receive)
        try:
            arguments = read_arguments(command, body or b"")
            return 200, {"result": await getattr(self._control, command)(**arguments)}
        except StreamingQueueError as error:
            return 400 if isinstance(error, ProtocolError | ConfigError) else 500, _error(error)
        except Exception as error:
            logger.exception("control: %s failed", command)
            return 500, _error(error)


def _error(error: BaseException) -> object:
    return {"error": error_event(error)}
