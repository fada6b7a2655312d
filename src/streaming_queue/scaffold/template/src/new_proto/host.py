"""The host half: an executor behind a TCP port."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Self

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor
from streaming_queue.comm.execution import HEARTBEAT_S, Execution, Executions
from streaming_queue.comm.listener import BACKLOG, listen
from streaming_queue.errors import AuthError, CommError, RateLimitedError, StreamingQueueError, error_event

from new_proto import codec
from new_proto.address import address_at
from new_proto.connection import Connection


class HostedAgent:
    """A hosted agent, and its handle. `comm.execution` runs the executor: keys, deadlines, failures, the grace."""

    _server: asyncio.Server

    def __init__(self, agent_id: str, base_url: str, executor: Executor, backend: BaseCommBackend) -> None:
        self.agent_id = agent_id
        self.base_url = base_url
        self._request = backend.request
        self._options = backend.host_options
        self._limits = backend.host_options.limits
        self._executions = Executions(executor, grace_s=self._limits.disconnect_grace_s)
        self._callers: set[asyncio.Task[None]] = set()

    @classmethod
    async def spawn(cls, agent_id: str, host: str, port: int, executor: Executor, backend: BaseCommBackend) -> Self:
        """Host `executor` by the options of `backend`; returns when it is ready. Raises like `comm.listener.listen`."""
        options = backend.host_options
        listener = await listen(host, port, options, f"agent {agent_id!r}")
        agent = cls(agent_id, address_at(listener.authority), executor, backend)
        agent._server = await asyncio.start_server(
            agent._accept, sock=listener.socket, backlog=BACKLOG, limit=options.limits.body_bytes, ssl=options.tls
        )
        return agent

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one caller, in a task that `stop` ends."""
        connection = Connection(reader, writer, f"a caller of agent {self.agent_id!r}")
        caller = asyncio.create_task(self._serve(connection), name=f"serve:{self.agent_id}")
        self._callers.add(caller)
        caller.add_done_callback(self._callers.discard)
        caller.add_done_callback(lambda _: connection.abort())

    async def _serve(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(self._limits.body_deadline_s):
                line = await connection.read()
            if line == codec.PING:
                await connection.write(codec.PONG if self._executions.ready else codec.DRAINING)
            elif len(self._callers) > self._limits.connections:
                raise RateLimitedError(f"agent {self.agent_id!r} has too many callers", retry_after_s=1.0)
            else:
                await self._answer(codec.decode_message(line), connection)
        except StreamingQueueError as error:
            await connection.refuse(codec.encode_event(error_event(error)), self._limits.body_deadline_s)
        except TimeoutError:
            pass  # a caller that sends nothing gets nothing

    async def _answer(self, message: codec.Message, connection: Connection) -> None:
        """Send the agent's events to the caller. If the caller vanishes, its question goes on for the grace."""
        principal = await self._principal(message.credential)
        context = self._request(self.agent_id, message.payload, principal=principal, streaming=message.streaming)
        with self._executions.attach(context) as execution:
            try:
                async with asyncio.TaskGroup() as tasks, aclosing(execution.batches(HEARTBEAT_S)) as batches:
                    watching = tasks.create_task(self._watch(execution, connection), name=f"watch:{self.agent_id}")
                    async for events in batches:
                        await connection.write(b"".join(map(codec.encode_event, events)) or codec.HEARTBEAT)
                    watching.cancel()
            except* CommError:
                pass

    async def _watch(self, execution: Execution, connection: Connection) -> None:
        """Cancel the question if its caller sends `cancel`. Raises CommError if the caller is gone."""
        while await connection.read() != codec.CANCEL:
            pass
        if not execution.is_command:
            await self._executions.discard(execution)

    async def _principal(self, credential: str | None) -> str | None:
        """The caller's principal, None if the host asks for no credential. Raises AuthError."""
        if self._options.authenticator is None:
            return None
        async with asyncio.timeout(self._limits.body_deadline_s):
            principal = (
                await self._options.authenticator(credential) if credential is not None else self._options.anonymous
            )
        if principal is None:
            raise AuthError(f"agent {self.agent_id!r} requires a valid credential (network.token)")
        return principal

    async def drain(self, timeout_s: float) -> None:
        """Take no more questions, and wait for those in flight, at most `timeout_s`."""
        await self._executions.drain(timeout_s)

    async def stop(self) -> None:
        """Fail open questions as retryable and stop serving; idempotent, bounded even with a hung executor."""
        self._server.close()
        await self._executions.aclose(self._limits.stop_s)
        for caller in self._callers:
            caller.cancel()
        if self._callers:
            await asyncio.wait(self._callers, timeout=self._limits.stop_s)
