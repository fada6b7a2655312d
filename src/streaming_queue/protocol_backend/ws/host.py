"""The host half: an executor behind a WebSocket, and `GET /health` on the same port."""

from __future__ import annotations

import asyncio
import logging

from websockets.asyncio.server import Server, ServerConnection, serve

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor
from streaming_queue.comm.host.admission import Admission
from streaming_queue.comm.host.execution import Executions
from streaming_queue.comm.host.listener import BACKLOG, ListeningSocket, listen
from streaming_queue.protocol_backend.ws.connection import CLOSE_TIMEOUT_S, HostSide, library_log
from streaming_queue.protocol_backend.ws.conversation import Conversation
from streaming_queue.protocol_backend.ws.frames import SUBPROTOCOL
from streaming_queue.protocol_backend.ws.handshake import Handshake

logger = logging.getLogger(__name__)


async def spawn(agent_id: str, host: str, port: int, executor: Executor, backend: BaseCommBackend) -> WsAgent:
    """Host `executor` by the options of `backend`; returns when it is ready. Raises like `listen`."""
    listener = await listen(host, port, backend.host_options, f"agent {agent_id!r}")
    agent = WsAgent(agent_id, listener, executor, backend)
    try:
        await agent.start(listener)
    except BaseException:
        listener.socket.close()
        raise
    return agent


class WsAgent:
    """A hosted agent, and its handle."""

    def __init__(self, agent_id: str, listener: ListeningSocket, executor: Executor, backend: BaseCommBackend) -> None:
        self.agent_id = agent_id
        self.base_url = f"{'wss' if backend.host_options.tls else 'ws'}://{listener.authority}"
        self._backend = backend
        self._limits = backend.host_options.limits
        self._executions = Executions(executor, grace_s=self._limits.disconnect_grace_s)
        self._connections: set[HostSide] = set()
        self._conversations: set[Conversation] = set()
        self._server: Server
        self._stopping: asyncio.Task[None] | None = None

    async def start(self, listener: ListeningSocket) -> None:
        """Serve what comes to `listener`."""
        options, open_connections = self._backend.host_options, self._connections

        class Connection(HostSide):
            connections = open_connections

        admission = Admission(options, hosts=listener.hosts, any_address=listener.any_address)
        handshake = Handshake(admission, options.limits, open_connections, self._health)
        self._server = await serve(
            self._converse,
            sock=listener.socket,
            backlog=BACKLOG,
            ssl=options.tls,
            subprotocols=[SUBPROTOCOL],
            compression=None,
            process_request=handshake.on_request,
            process_response=handshake.on_response,
            server_header=None,
            open_timeout=options.limits.body_deadline_s,
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=options.limits.body_bytes,
            logger=library_log,
            create_connection=Connection,
        )

    def _health(self) -> dict[str, str]:
        return {"status": "ok" if self._executions.ready else "draining", "agent_id": self.agent_id}

    async def _converse(self, connection: ServerConnection) -> None:
        if not isinstance(connection, HostSide):
            raise TypeError("the server makes connections of our own class")
        conversation = Conversation(
            self.agent_id, connection, self._executions, self._backend.request, self._limits.connections
        )
        self._conversations.add(conversation)
        try:
            await conversation.serve()
        finally:
            self._conversations.discard(conversation)

    async def stop(self) -> None:
        """Fail what is under way as retryable and stop serving; idempotent, bounded even with a hung executor."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name=f"stop:{self.agent_id}")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self._server.close(close_connections=False)
        await asyncio.gather(self._executions.aclose(self._limits.stop_s), self._hang_up())

    async def _hang_up(self) -> None:
        """Let the answers that are known reach their callers, close every connection, and cut off what stays open."""
        goodbyes = [asyncio.create_task(conversation.close()) for conversation in self._conversations]
        if goodbyes:
            await asyncio.wait(goodbyes, timeout=0.8 * self._limits.stop_s)
        for connection in list(self._connections):
            connection.give_up("the agent was stopped")
        for goodbye in goodbyes:
            goodbye.cancel()
        await asyncio.gather(*goodbyes, return_exceptions=True)
        try:
            async with asyncio.timeout(0.2 * self._limits.stop_s):
                await self._server.wait_closed()
        except TimeoutError:
            logger.warning("agent %r: connections do not end when they are cut off", self.agent_id)

    async def drain(self, timeout_s: float) -> None:
        """Take on no question more, and wait for those under way, `timeout_s` at the most."""
        await self._executions.drain(timeout_s)
