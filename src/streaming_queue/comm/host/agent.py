"""The handle of a hosted agent: it stops once, and it drains."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from functools import partial

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor
from streaming_queue.comm.host.execution import Executions


class StopsOnce(ABC):
    """Calls `_stop` once, however many callers stop it; a caller that is cancelled does not cancel `_stop`."""

    _stopping: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Stop serving; idempotent, bounded even with a hung executor."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name=f"stop:{self}")
        await asyncio.shield(self._stopping)

    @abstractmethod
    async def _stop(self) -> None:
        """Fail the work in flight as retryable, and stop serving."""


class HostedAgent(StopsOnce):
    """A hosted agent's handle (`comm.base.AgentHandle`), by the options of the backend that hosts the agent."""

    base_url = ""

    def __init__(self, agent_id: str, executor: Executor, backend: BaseCommBackend) -> None:
        self.agent_id = agent_id
        self._options = backend.host_options
        self._request = partial(backend.request, agent_id)
        self._executions = Executions(executor, grace_s=self._options.limits.disconnect_grace_s)

    def __str__(self) -> str:
        return f"agent {self.agent_id!r}"

    async def drain(self, timeout_s: float) -> None:
        """Refuse new questions, and wait for those in flight, `timeout_s` at most."""
        await self._executions.drain(timeout_s)
