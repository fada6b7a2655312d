"""The reference backend: a call in this process without a wire. The cost of other backends is compared with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from streaming_queue.comm.base import About, Capabilities
from streaming_queue.comm.context import heard
from streaming_queue.comm.host.execution import HEARTBEAT_S, Executions
from streaming_queue.comm.probing import ProbingBackend
from streaming_queue.errors import BackendClosedError, ConfigError, UnavailableError, error_from_event
from streaming_queue.messages import ERROR, Reply, StreamEvent, TextEvent, reply_of


@dataclass
class _Agent:
    """A hosted executor, and its handle."""

    agent_id: str
    base_url: str
    executions: Executions
    backend: InprocCommBackend

    async def stop(self) -> None:
        self.backend.hosted.pop(self.base_url, None)
        await self.executions.aclose()

    async def drain(self, timeout_s: float) -> None:
        await self.executions.drain(timeout_s)


class InprocCommBackend(ProbingBackend):
    """Agents have addresses like `inproc://<agent id>`; each message runs in its own task."""

    name = "inproc"
    schemes = ("inproc",)
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True)
    about = About(probe="whether it is hosted")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.hosted: dict[str, _Agent] = {}
        self._closed = False

    def _agent(self, agent_id: str) -> _Agent:
        if self._closed:
            raise BackendClosedError("the inproc backend is closed")
        address = self.endpoint(agent_id)
        try:
            return self.hosted[address]
        except KeyError:
            raise UnavailableError(f"{address}: no agent is hosted there") from None

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Reply:
        """Run the agent's executor on `payload`; `raw` is the terminal event."""
        async for event in self._events(src_id, dst_id, payload, streaming=False):
            last = event
        return reply_of(last)

    def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        """The executor's events as it enqueues them."""
        return self._events(src_id, dst_id, payload, streaming=True)

    async def _events(
        self, src_id: str, dst_id: str, payload: dict[str, Any], *, streaming: bool
    ) -> AsyncIterator[TextEvent]:
        agent = self._agent(dst_id)
        context = self.request(dst_id, payload, principal=src_id, streaming=streaming)
        with agent.executions.attach(context) as execution:
            try:
                async with aclosing(execution.batches(HEARTBEAT_S)) as batches:
                    async for batch in batches:
                        heard()
                        for event in batch:
                            if event["type"] == ERROR:
                                raise error_from_event(event, dst_id)
                            yield event
            finally:
                if not execution.done and execution.readers == 1 and not execution.is_command:
                    await agent.executions.discard(execution)

    async def _check(self, agent_id: str) -> bool:
        """Whether the agent is hosted here and takes questions."""
        return self._agent(agent_id).executions.ready

    async def close(self) -> None:
        """Stop every agent."""
        self._closed = True
        for agent in list(self.hosted.values()):
            await agent.stop()

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> _Agent:
        """Host `executor`; host and port have no meaning here."""
        del host, port
        base_url = f"inproc://{agent_id}"
        if base_url in self.hosted:
            raise ConfigError(f"agent {agent_id!r} is hosted already")
        agent = self.hosted[base_url] = _Agent(agent_id, base_url, Executions(executor), self)
        return agent
