"""A served worker's place with a coordinator elsewhere: taken, kept, and given up."""

from __future__ import annotations

import asyncio
import logging

from streaming_queue.comm.context import CallContext, calling
from streaming_queue.config import Config
from streaming_queue.core.network_base import RUNNER_ID
from streaming_queue.errors import AuthError, ConfigError, StreamingQueueError
from streaming_queue.messages import Reply
from streaming_queue.runner.remote import AGENT_ID, connect_agent
from streaming_queue.telemetry.console import Output

logger = logging.getLogger(__name__)

AGAIN_S = 3.0
"""How often the coordinator is told: one that was started again knows nobody."""
REPLY_S = 10.0
LEAVE_S = 3.0


class Registration:
    """The worker at `address` with the coordinator at `coordinator`, over the configured protocol."""

    def __init__(self, config: Config, coordinator: str, address: str, output: Output) -> None:
        self._config = config
        self._coordinator = coordinator
        self._address = address
        self._output = output
        self._told = ""

    async def keep(self) -> None:
        """Join, and join again whenever the coordinator was away; for ever.

        Raises ConfigError where it never can, AuthError where this worker may not.
        """
        while True:
            try:
                reply = await self._command("join", REPLY_S)
                self._tell(f"takes part at {self._coordinator}: {reply['text']}")
            except (AuthError, ConfigError):
                raise
            except (StreamingQueueError, TimeoutError) as error:
                self._tell(f"does not take part yet, and tries again every {AGAIN_S:g} s: {error}", warning=True)
            await asyncio.sleep(AGAIN_S)

    async def leave(self) -> None:
        """Say that nothing more can be asked; three seconds at the most."""
        try:
            await self._command("leave", LEAVE_S)
        except (StreamingQueueError, TimeoutError) as error:
            logger.debug("%s was not told that we leave: %r", self._coordinator, error)

    async def _command(self, command: str, timeout_s: float) -> Reply:
        payload = {"text": command, "metadata": {"worker_address": self._address}}
        async with (
            asyncio.timeout(timeout_s),
            connect_agent(self._config, self._coordinator, commanded=True) as network,
        ):
            with calling(CallContext(kind="command")):
                reply = await network.route_message(RUNNER_ID, AGENT_ID, payload)
        if "error" in reply:
            raise reply["error"]
        return reply

    def _tell(self, text: str, *, warning: bool = False) -> None:
        if text != self._told:
            self._told = text
            (self._output.warning if warning else self._output.success)(text)
