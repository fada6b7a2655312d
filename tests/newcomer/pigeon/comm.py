"""The backend of pigeon: it asks agents and hosts them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from streaming_queue.comm.base import BaseCommBackend, Capabilities, EndpointOptions
from streaming_queue.comm.execution import Executions
from streaming_queue.comm.listener import listen
from streaming_queue.comm.payload import decode_payload, encode_payload
from streaming_queue.errors import (
    AuthError,
    BackendClosedError,
    ConnectError,
    ProtocolError,
    StreamingQueueError,
    error_event,
    error_from_event,
)
from streaming_queue.messages import MESSAGE

LINE_BYTES = 2**22


class PigeonCommBackend(BaseCommBackend):
    """Agents at `pigeon://host:port`."""

    name = "pigeon"
    schemes = ("pigeon",)
    capabilities = Capabilities(host=True)

    def __init__(self, *, greeting: str = "", ring: str = "", **options: Any) -> None:
        super().__init__(**options)
        self._words = greeting + ring
        self._agents: list[PigeonAgent] = []
        self._closed = False

    async def send(self, src_id: str, dst_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        address = self.endpoint(dst_id)
        line = await self._ask(address, {**encode_payload(payload), "ring": self._ring(dst_id)})
        try:
            event = dict(json.loads(line))
        except (ValueError, TypeError) as error:
            raise ProtocolError(f"{address}: it speaks something else", retryable=False) from error
        if event.get("type") != MESSAGE:
            raise error_from_event(event, address)
        return {"raw": event, "text": self._words + event["data"]}

    async def health_check(self, agent_id: str) -> bool:
        try:
            async with asyncio.timeout(1):
                return await self._ask(self.endpoint(agent_id), None) == b"null\n"
        except (StreamingQueueError, TimeoutError):
            return False

    def _ring(self, agent_id: str) -> str | None:
        return self.options.get(agent_id, EndpointOptions()).credential

    async def _ask(self, address: str, document: Any) -> bytes:
        if self._closed:
            raise BackendClosedError("the pigeon backend is closed")
        peer = urlsplit(address)
        try:
            reader, writer = await asyncio.open_connection(peer.hostname, peer.port, limit=LINE_BYTES)
            try:
                writer.write(json.dumps(document).encode() + b"\n")
                return await reader.readuntil(b"\n")
            finally:
                writer.close()
        except (OSError, EOFError) as error:
            raise ConnectError(f"{address}: {error!r}") from error

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> PigeonAgent:
        agent = PigeonAgent(agent_id, executor, self)
        await agent.start(host, port)
        self._agents.append(agent)
        return agent

    async def close(self) -> None:
        self._closed = True
        for agent in self._agents:
            await agent.stop()


class PigeonAgent:
    """A hosted agent."""

    def __init__(self, agent_id: str, executor: Any, backend: PigeonCommBackend) -> None:
        self.agent_id = agent_id
        self._backend = backend
        self._executions = Executions(executor)

    async def start(self, host: str, port: int) -> None:
        listener = await listen(host, port, self._backend.host_options, f"agent {self.agent_id!r}")
        self.base_url = f"pigeon://{listener.authority}"
        self._server = await asyncio.start_server(self._serve, sock=listener.socket, limit=LINE_BYTES)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            document = json.loads(await reader.readline())
            end = None if document is None else await self._answer(document)
        except StreamingQueueError as error:
            end = error_event(error)
        except ValueError:
            end = error_event(ProtocolError("this is no message", retryable=False))
        writer.write(json.dumps(end).encode() + b"\n")
        writer.close()

    async def _answer(self, document: Mapping[str, Any]) -> Any:
        options, principal = self._backend.host_options, None
        if options.authenticator is not None:
            principal = await options.authenticator(document["ring"]) if document["ring"] else options.anonymous
            if principal is None:
                raise AuthError(f"agent {self.agent_id!r} wants a ring that it knows")
        request = self._backend.request(self.agent_id, decode_payload(document), principal=principal)
        with self._executions.attach(request) as execution:
            return await execution.result()

    async def stop(self) -> None:
        self._server.close()
        await self._executions.aclose(1.0)
