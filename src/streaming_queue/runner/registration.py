"""The registration of a served worker at a coordinator in another process."""

from __future__ import annotations

import asyncio
import logging

from streaming_queue.config import Config
from streaming_queue.errors import AuthError, ConfigError, StreamingQueueError
from streaming_queue.messages import Reply
from streaming_queue.runner.following import RemoteCoordinator
from streaming_queue.runner.remote import AGENT_ID, connect_agent
from streaming_queue.telemetry.console import Output

logger = logging.getLogger(__name__)

AGAIN_S = 3.0
"""Time between two registrations: a restarted coordinator knows no worker."""
REPLY_S = 10.0
LEAVE_S = 3.0


class Registration:
    """The worker at `address` with the coordinator at `coordinator`, over the configured protocol."""

    def __init__(self, config: Config, coordinator: str, address: str, output: Output) -> None:
        self._config = config
        self._coordinator = coordinator
        self._address = address
        self._output = output
        self._said = ""

    async def keep(self) -> None:
        """Join, and join again and again: the coordinator may restart. Never returns.

        Raises ConfigError if joining cannot work, AuthError if this worker may not join.
        """
        while True:
            try:
                reply = await self._command("join", REPLY_S)
                self._report(f"joined {self._coordinator}: {reply['text']}")
            except (AuthError, ConfigError):
                raise
            except (StreamingQueueError, TimeoutError) as error:
                self._report(f"has not joined yet, and tries again every {AGAIN_S:g} s: {error}", warning=True)
            await asyncio.sleep(AGAIN_S)

    async def leave(self) -> None:
        """Deregister the worker, within three seconds."""
        try:
            await self._command("leave", LEAVE_S)
        except (StreamingQueueError, TimeoutError) as error:
            logger.debug("%s did not get our leave command: %r", self._coordinator, error)

    async def _command(self, command: str, timeout_s: float) -> Reply:
        async with (
            asyncio.timeout(timeout_s),
            connect_agent(self._config, self._coordinator, commanded=True) as network,
        ):
            remote = RemoteCoordinator(network, AGENT_ID, self._output)
            reply = await remote.command(command, worker_address=self._address)
        if "error" in reply:
            raise reply["error"]
        return reply

    def _report(self, text: str, *, warning: bool = False) -> None:
        if text != self._said:
            self._said = text
            (self._output.warning if warning else self._output.success)(text)
