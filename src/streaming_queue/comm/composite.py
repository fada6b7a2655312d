"""Several protocols behind one interface: each agent has its own backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.probing import probed
from streaming_queue.errors import StreamingQueueError
from streaming_queue.messages import StreamEvent


class CompositeBackend(BaseCommBackend):
    """Routes messages by agent id; an agent without an assigned backend uses `default`.

    It has no capabilities of its own: ask the backend of an agent (`backend_of`).
    """

    name = "composite"

    def __init__(self, default: BaseCommBackend) -> None:
        super().__init__()
        self._default = default
        self._by_agent: dict[str, BaseCommBackend] = {}

    def assign(self, agent_id: str, backend: BaseCommBackend) -> None:
        """Use `backend` for `agent_id` from now on."""
        self._by_agent[agent_id] = backend

    def backend_of(self, agent_id: str) -> BaseCommBackend:
        """The backend of `agent_id`."""
        return self._by_agent.get(agent_id, self._default)

    def protocol_of(self, agent_id: str) -> str:
        """The protocol of `agent_id`."""
        return self.backend_of(agent_id).protocol_of(agent_id)

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        """Register an agent's address in the agent's backend."""
        await self.backend_of(agent_id).register_endpoint(agent_id, address)

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Prepare an edge, by the receiver's protocol."""
        await self.backend_of(dst_id).connect(src_id, dst_id)

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        """Send by the receiver's protocol."""
        return await self.backend_of(dst_id).send(src_id, dst_id, payload)

    def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        """Send by the receiver's protocol and yield events."""
        return self.backend_of(dst_id).stream(src_id, dst_id, payload)

    async def health_check(self, agent_id: str) -> bool:
        """Probe by the agent's protocol."""
        return await self.backend_of(agent_id).health_check(agent_id)

    async def probe(self, agent_id: str) -> StreamingQueueError | None:
        """The reason why the agent does not answer, from its protocol's probe."""
        return await probed(self.backend_of(agent_id), agent_id)

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """The agent's description of itself, by its protocol."""
        return await self.backend_of(agent_id).describe(agent_id)

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> Any:
        """Host an agent by its protocol."""
        backend = self.backend_of(agent_id)
        backend.route = self.route
        return await backend.spawn_local_agent(agent_id, host, port, executor)

    async def close(self) -> None:
        """Close every backend, then raise the first failure."""
        ends = await asyncio.gather(*(backend.close() for backend in self._backends()), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    def _backends(self) -> Iterable[BaseCommBackend]:
        return dict.fromkeys((*self._by_agent.values(), self._default))


def backend_of(backend: BaseCommBackend, agent_id: str) -> BaseCommBackend:
    """The backend of `agent_id`: `backend` itself, unless it is a composite."""
    return backend.backend_of(agent_id) if isinstance(backend, CompositeBackend) else backend
