"""Probes: the reason why an agent does not answer, and one rule for all backends about what counts as an answer."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from typing import Any, ClassVar

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.errors import AuthError, ConnectError, RemoteError, SendTimeoutError, StreamingQueueError, typed

logger = logging.getLogger(__name__)

START_POLL_S = 0.1
"""The time between two probes of an agent whose process starts; each such probe waits, too."""


class StartingError(ConnectError):
    """The agent's process runs and does not answer yet; the text says how long the start may take. Probe again later.

    It crosses a wire as a ConnectError.
    """


def answers(reason: StreamingQueueError | None) -> bool:
    """Whether an agent answers, by the result of its probe.

    A refusal of our credential counts as an answer: a message would fail with the same AuthError, and waiting does not
    help.
    """
    return reason is None or isinstance(reason, AuthError)


async def probed(backend: Any, agent_id: str) -> StreamingQueueError | None:
    """The reason why an agent does not answer, from `probe`; from `health_check` if the backend overrides only that.

    Raises the backend's errors.
    """
    if _gives_reason(backend):
        reason: StreamingQueueError | None = await backend.probe(agent_id)
        return reason
    return await BaseCommBackend.probe(backend, agent_id)


def _gives_reason(backend: Any) -> bool:
    """Whether `probe` agrees with `health_check`: a subclass may override only `health_check`."""
    if "health_check" in getattr(backend, "__dict__", {}):
        return False
    for cls in type(backend).__mro__[:-1]:
        if "probe" in vars(cls) or "health_check" in vars(cls):
            return "probe" in vars(cls)
    return False


class ProbingBackend(BaseCommBackend):
    """A backend that reports why an agent does not answer; a subclass defines `_check`."""

    probe_timeout_s: ClassVar[float] = 1.0
    """The timeout of `_check`, in seconds."""

    @abstractmethod
    async def _check(self, agent_id: str) -> bool:
        """Whether the agent reports that it takes questions. Raises like `send` if the agent does not answer."""

    async def probe(self, agent_id: str) -> StreamingQueueError | None:
        """The reason why the agent does not answer the cheap probe in time; None if it answers. Never raises."""
        address = self.endpoints.get(agent_id, agent_id)
        try:
            async with asyncio.timeout(self.probe_timeout_s) as bound:
                if await self._check(agent_id):
                    return None
                return RemoteError(f"{address}: the agent answers and takes no questions")
        except Exception as error:
            logger.debug("agent %s is not healthy: %r", agent_id, error)
            if bound.expired() and not isinstance(error, StreamingQueueError):
                return SendTimeoutError(f"{address}: no answer to its probe within {self.probe_timeout_s:g} s")
            return typed(error, address)

    async def health_check(self, agent_id: str) -> bool:
        """Whether the agent answers the cheap probe in time. A refusal of our credential counts as an answer.

        It waits up to `probe_timeout_s` for a process that starts.
        """
        until = time.monotonic() + self.probe_timeout_s
        reason = await self.probe(agent_id)
        while isinstance(reason, StartingError) and time.monotonic() < until:
            await asyncio.sleep(START_POLL_S)
            reason = await self.probe(agent_id)
        return answers(reason)
