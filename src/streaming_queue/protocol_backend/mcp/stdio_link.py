"""A server that we start; it reads and writes one message per line on its standard input and output."""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import suppress
from typing import Any

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES, over_limit
from streaming_queue.comm.client.replies import UNREAD_BYTES, Replies
from streaming_queue.comm.commands import secrets_of, without
from streaming_queue.comm.jsonrpc import Message, decode_messages, encode_call, is_response, refuse_request
from streaming_queue.errors import BackendClosedError, CommError, ConfigError, ConnectError, ProtocolError
from streaming_queue.masking import masked
from streaming_queue.protocol_backend.mcp.child import Child, begin
from streaming_queue.protocol_backend.mcp.session import Request

logger = logging.getLogger(__name__)

STDIO = "stdio"
SCHEMES = ("http", "https", STDIO)

NOISE_BYTES = 120
"""The shown length of a line that is not a message."""
SMALLEST_BYTES = UNREAD_BYTES // 4096
"""The smallest counted size of an unread message: at most 4096 may wait for a slow reader."""


class StdioLink:
    """A server. The first agreement starts it; a later one starts it again after it has ended; `close` ends it."""

    lasting = True
    probe_s = 10.0
    finds_requests = True

    def __init__(
        self, address: str, command: tuple[str, ...], passed_on: Collection[str], *, start_timeout_s: float
    ) -> None:
        self.address = masked(address)
        self.patience_s = start_timeout_s
        self._command = command
        self._secrets = secrets_of(address)
        self._passed_on = passed_on
        self._began_at = 0.0
        self._noise = b""
        self._child: Child | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, Replies[Message]] = {}
        self._highest = 0
        self._alive = False
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether the server runs and follows the protocol."""
        return self._alive

    @property
    def pid(self) -> int | None:
        """The id of the server's process, None if it does not run."""
        return None if self._child is None else self._child.pid

    @property
    def starting(self) -> str | None:
        """The starting command and its time so far, as text."""
        waited_s = time.monotonic() - self._began_at
        return f"waiting for `{self.address.partition(':')[2]}` to start, {waited_s:.0f} s of {self.patience_s:g} s"

    @property
    def remarks(self) -> str:
        """The text on its standard output that is not a message, and the last line of its standard error."""
        words = self._child.last_words if self._child is not None else ""
        noise = self._noise.decode("utf-8", "replace").strip()
        said = [("on its standard output, not MCP", noise), ("last on its standard error", words)]
        return "".join(f"; {where}: {without(text, self._secrets)!a}" for where, text in said if text)

    async def begin(self) -> None:
        """Start the server again. Raises ConfigError if the command cannot be run."""
        await self._end()
        if self._closed:
            raise BackendClosedError(f"{self.address}: the mcp backend is closed")
        self._highest, self._noise, self._began_at = 0, b"", time.monotonic()
        child = await begin(self._command, self._passed_on, self.address)
        self._child, self._alive = child, True
        self._reader = asyncio.create_task(self._read(child), name=f"read:{self.address}")

    async def close(self) -> None:
        """End the server."""
        self._closed = True
        await self._end()

    async def _end(self) -> None:
        child, self._child = self._child, None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait({reader})
        self._fail(ConnectError(f"{self.address}: the server was ended before it answered"))
        if child is not None:
            await child.end()

    async def exchange(self, request: Request) -> AsyncGenerator[Message, None]:
        """Write a request, and yield its messages; decline requests of the server.

        Raises:
            ConnectError: the server ended.
            ProtocolError: its output is not MCP, or is over the limits.
        """
        replies = self._waiting[request.call_id] = Replies(self.address)
        self._highest = max(self._highest, request.call_id)
        try:
            await self._write(encode_call(request))
            while True:
                message = await replies.get()
                yield message
                if is_response(message):
                    return
        finally:
            if self._waiting.get(request.call_id) is replies:
                del self._waiting[request.call_id]

    async def send_message(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Write a notification or a response. Raises ConnectError if the server has ended."""
        del headers
        await self._write(body)

    async def _write(self, body: bytes) -> None:
        child = self._child
        if child is None:
            raise ConnectError(f"{self.address}: the server has ended")
        if not self._alive:
            raise await self._farewell(child)
        try:
            child.input.write(body + b"\n")
            await child.input.drain()
        except (OSError, RuntimeError) as error:  # uvloop raises RuntimeError on a pipe that was closed
            raise await self._farewell(child) from error

    async def _read(self, child: Child) -> None:
        """Pass each message to its request, until the server ends; end it if it breaks the protocol."""
        try:
            while line := await child.output.readuntil(b"\n"):
                await self._take(line)
        except asyncio.IncompleteReadError:
            self._alive = False
            self._fail(await self._farewell(child))
        except asyncio.LimitOverrunError:
            self._fail(over_limit(self.address, "a message", MAX_EVENT_BYTES))
            await child.end()
        except CommError as error:
            self._fail(error)
            await child.end()

    async def _farewell(self, child: Child) -> CommError:
        """The error for a server that ended, with the last line of its standard error."""
        code = await child.end()
        words = without(child.last_words, self._secrets)
        said = f": {words!a}" if words else self.remarks
        return ConnectError(f"{self.address}: the server ended (exit code {code}){said}")

    async def _take(self, line: bytes) -> None:
        try:
            messages = decode_messages(line, self.address)
        except ProtocolError as error:
            if not error.retryable:  # the message is too large: its request is not known
                raise
            if line.strip():
                self._noise = line[:NOISE_BYTES]
                logger.warning("%s: not a message on its standard output: %a", self.address, line[:NOISE_BYTES])
            return
        for message in messages:
            if is_response(message):
                self._give(self._id_of(message), message, len(line))
            elif (reply := refuse_request(message)) is not None:
                with suppress(ConnectError):
                    await self._write(reply)
            else:
                params = message.get("params")
                token = params.get("progressToken") if isinstance(params, dict) else None
                self._give(token, message, len(line))

    def _id_of(self, response: Message) -> Any:
        """The id of a response. Raises ProtocolError if no request had this id."""
        number = response.get("id")
        if isinstance(number, int) and not isinstance(number, bool) and 0 < number <= self._highest:
            return number
        raise ProtocolError(f"{self.address}: answered request {str(number)[:40]!a}, which was never sent")

    def _give(self, number: Any, message: Message, size: int) -> None:
        """Pass a message to the reader of its request, if it still waits."""
        replies = self._waiting.get(number) if isinstance(number, int) else None
        if replies is not None:
            replies.put(message, max(size, SMALLEST_BYTES))

    def _fail(self, error: CommError) -> None:
        """Fail all pending requests for this reason."""
        self._alive = False
        waiting, self._waiting = self._waiting, {}
        for replies in waiting.values():
            replies.fail(error)


def command_of(agent_id: str, address: str) -> tuple[str, ...] | None:
    """The command in `stdio:python server.py`, split like in a shell; None if the address is a URL.

    Raises ConfigError if it is neither.
    """
    scheme, _, rest = address.partition(":")
    if scheme != STDIO:
        if scheme not in SCHEMES:
            raise ConfigError(
                f"agent {agent_id!r}: address {masked(address)!r} must be http://host:port/mcp, https://..., "
                "or stdio: and a command, like stdio:python server.py"
            )
        return None
    try:
        command = tuple(shlex.split(rest))
    except ValueError as error:
        raise ConfigError(
            f"agent {agent_id!r}: the command of address {masked(address)!r} cannot be read: {error}"
        ) from error
    if not command:
        raise ConfigError(f"agent {agent_id!r}: address {address!r} has no command, like stdio:python server.py")
    return command
