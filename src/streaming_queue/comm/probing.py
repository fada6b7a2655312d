"""What a probe tells: why an agent does not answer, and one rule for all backends on what counts as an answer."""

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
"""Between two probes of an agent whose process starts; such a probe waits for a while itself."""


class StartingError(ConnectError):
    """The agent's process runs and does not answer yet; the text says how long it may take. A later probe tells more.

    It crosses a wire as a ConnectError.
    """


def answers(reason: StreamingQueueError | None) -> bool:
    """Whether an agent answers, by what its probe told.

    An agent that refuses our credential answers: a message to it fails with the same AuthError, which no waiting mends.
    """
    return reason is None or isinstance(reason, AuthError)


async def probed(backend: Any, agent_id: str) -> StreamingQueueError | None:
    """What `backend` tells of an agent: by `probe`, or by `health_check` where that is all it has, or overrides.

    Raises what the backend does.
    """
    if _tells_why(backend):
        reason: StreamingQueueError | None = await backend.probe(agent_id)
        return reason
    return await BaseCommBackend.probe(backend, agent_id)


def _tells_why(backend: Any) -> bool:
    """Whether its `probe` knows as much as its `health_check`: a subclass may have replaced only the latter."""
    if "health_check" in getattr(backend, "__dict__", {}):
        return False
    for cls in type(backend).__mro__[:-1]:
        if "probe" in vars(cls) or "health_check" in vars(cls):
            return "probe" in vars(cls)
    return False


class ProbingBackend(BaseCommBackend):
    """A backend that tells why an agent does not answer; a subclass gives `_check`."""

    probe_timeout_s: ClassVar[float] = 1.0
    """How long `_check` may take."""

    @abstractmethod
    async def _check(self, agent_id: str) -> bool:
        """Whether the agent says that it takes questions. Raises what keeps it from saying so, as `send` does."""

    async def probe(self, agent_id: str) -> StreamingQueueError | None:
        """Why the agent does not answer the protocol's light probe in time; None where it does. Never raises."""
        address = self.endpoints.get(agent_id, agent_id)
        try:
            async with asyncio.timeout(self.probe_timeout_s) as bound:
                if await self._check(agent_id):
                    return None
                return RemoteError(f"{address}: it answers, and says that it takes no questions")
        except Exception as error:
            logger.debug("agent %s is not healthy: %r", agent_id, error)
            if bound.expired() and not isinstance(error, StreamingQueueError):
                return SendTimeoutError(f"{address}: no answer to its probe within {self.probe_timeout_s:g} s")
            return typed(error, address)

    async def health_check(self, agent_id: str) -> bool:
        """Whether the agent answers the protocol's light probe in time; one that refuses our credential does.

        A process that starts is waited for within `probe_timeout_s`.
        """
        until = time.monotonic() + self.probe_timeout_s
        reason = await self.probe(agent_id)
        while isinstance(reason, StartingError) and time.monotonic() < until:
            await asyncio.sleep(START_POLL_S)
            reason = await self.probe(agent_id)
        return answers(reason)
