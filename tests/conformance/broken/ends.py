"""Backends and agents that do not end, or do not say that they ended."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from streaming_queue.errors import AuthError, ConnectError, StreamingQueueError
from streaming_queue.protocol_backend.http.comm import HttpCommBackend
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend
from streaming_queue.protocol_backend.ws.comm import WsCommBackend


class CloseHangs(InprocCommBackend):
    """Waits for every handler before it closes."""

    async def close(self) -> None:
        running = [run.task for agent in self.hosted.values() for run in agent.executions._running]
        await asyncio.gather(*running, return_exceptions=True)
        await super().close()


class HealthyAfterStop(InprocCommBackend):
    """Calls every agent healthy that was registered."""

    async def health_check(self, agent_id: str) -> bool:
        return agent_id in self.endpoints and not self._closed


class ProbesForEver(HttpCommBackend):
    """Waits as long as it takes for the probe's answer."""

    async def health_check(self, agent_id: str) -> bool:
        try:
            peer = self._peer(agent_id)
            async with peer.request("GET", peer.url / "health", headers={}) as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, StreamingQueueError):
            return False


class CallsRefusalsSilence(WsCommBackend):
    """Says of an agent that refuses it no more than that it does not answer."""

    async def probe(self, agent_id: str) -> StreamingQueueError | None:
        reason = await super().probe(agent_id)
        return ConnectError("it does not answer") if isinstance(reason, AuthError) else reason


class KeepsAnsweringWhenClosed(InprocCommBackend):
    """Closes nothing."""

    async def close(self) -> None:
        """Nothing."""


class KeepsThePort(HttpCommBackend):
    """Takes another port than the one it is told."""

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> Any:
        return await super().spawn_local_agent(agent_id, host, 0, executor)
