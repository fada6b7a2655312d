"""The handle of an agent that is hosted behind an ASGI server."""

from __future__ import annotations

import asyncio

from streaming_queue.comm.host.asgi import AsgiServer
from streaming_queue.comm.host.execution import Executions


class AsgiAgent:
    """A hosted agent, and its handle (`comm.base.AgentHandle`); `stop_s` is what its executor has to end."""

    def __init__(self, agent_id: str, executions: Executions, server: AsgiServer, stop_s: float) -> None:
        self.agent_id = agent_id
        self.base_url = server.base_url
        self._executions = executions
        self._server = server
        self._stop_s = stop_s

    async def stop(self) -> None:
        """Fail what is under way as retryable and stop serving; idempotent, bounded even with a hung executor."""
        await asyncio.gather(self._executions.aclose(self._stop_s), self._server.stop())

    async def drain(self, timeout_s: float) -> None:
        """Take on no question more, and wait for those under way, `timeout_s` at the most."""
        await self._executions.drain(timeout_s)
