"""The backend: the client half, and the entry to the host half (`host.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.comm.base import About, BaseCommBackend, Capabilities, EndpointOptions
from streaming_queue.comm.context import heard
from streaming_queue.errors import BackendClosedError, ConnectError, StreamingQueueError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent, TextEvent, reply_of

from new_proto import codec
from new_proto.address import SCHEME, host_and_port
from new_proto.connection import Connection
from new_proto.host import HostedAgent

PROBE_S = 1.0
CANCEL_S = 1.0


class NewProtoCommBackend(BaseCommBackend):
    """Agents at `new-proto://host:port`, a connection for each message.

    An answer may take any time: the caller cancels `send`.
    """

    name = "new-proto"
    schemes = (SCHEME,)
    socket_schemes = (SCHEME,)
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True)
    about = About(probe="a line with ping")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._agents: list[HostedAgent] = []
        self._connections: set[Connection] = set()
        self._closed = False

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        """Store the address of an agent; idempotent. Raises ConfigError on an invalid address."""
        host_and_port(address)
        await super().register_endpoint(agent_id, address)

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Reply:
        """Send a message and wait for its answer; `raw` is the event with the answer."""
        del src_id
        *_, end = [event async for event in self._events(dst_id, payload, streaming=False)]
        return reply_of(end)

    def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        """Like `send`, with the agent's events as they come."""
        del src_id
        return self._events(dst_id, payload, streaming=True)

    async def _events(
        self, agent_id: str, payload: dict[str, Any], *, streaming: bool
    ) -> AsyncGenerator[TextEvent, None]:
        """Send a message and yield the events, the answer last. A caller that leaves early cancels its question."""
        options = self.options.get(agent_id, EndpointOptions())
        message = codec.encode_message(codec.Message(payload, streaming, options.credential))
        is_command = (payload.get("metadata") or {}).get("kind") == "command"
        ended = False
        async with self._connected(agent_id) as connection:
            meter = AnswerMeter(connection.peer)
            try:
                await connection.write(message)
                while not ended:
                    line = await connection.read()
                    heard()
                    if line != codec.HEARTBEAT:
                        event = codec.decode_event(line, connection.peer)
                        meter.take(event)
                        ended = event["type"] == MESSAGE
                        yield event
            except (asyncio.CancelledError, GeneratorExit):
                if not (ended or is_command):
                    await self._cancel(connection)
                raise

    async def _cancel(self, connection: Connection) -> None:
        """Send `cancel` to the agent, and wait for its end, at most one second."""
        with suppress(StreamingQueueError, TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await connection.write(codec.CANCEL)
                while await connection.read():
                    pass

    @asynccontextmanager
    async def _connected(self, agent_id: str) -> AsyncIterator[Connection]:
        """A connection to an agent for the block. Raises UnknownAgentError, ConnectError and BackendClosedError."""
        self._check_open()
        options = self.options.get(agent_id, EndpointOptions())
        connection = await Connection.open(self.endpoint(agent_id), options.tls)
        self._connections.add(connection)
        try:
            self._check_open()
            yield connection
        except ConnectError:
            self._check_open()  # `close` may have broken the connection
            raise
        finally:
            self._connections.discard(connection)
            connection.abort()

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosedError("the new-proto backend is closed")

    # TODO: your protocol's own probe; it must cost the agent no work.
    async def health_check(self, agent_id: str) -> bool:
        """Whether the agent answers `ping` with `pong` within one second."""
        try:
            async with asyncio.timeout(PROBE_S), self._connected(agent_id) as connection:
                await connection.write(codec.PING)
                return await connection.read() == codec.PONG
        except (StreamingQueueError, TimeoutError):
            return False

    async def close(self) -> None:
        """Stop the agents hosted here and close all connections; messages in flight fail."""
        self._closed = True
        await asyncio.gather(*(agent.stop() for agent in self._agents))
        for connection in self._connections:
            connection.abort()

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> HostedAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        self._check_open()
        agent = await HostedAgent.spawn(agent_id, host, port, executor, self)
        self._agents.append(agent)
        return agent
