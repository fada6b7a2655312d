"""How long a message that was lost waits for a server that went, and for the agent to be back there."""

from __future__ import annotations

import asyncio
import random

from streaming_queue.errors import ConnectError
from streaming_queue.protocol_backend.nats.link import Link

PATIENCE_S = 5.0
SHORTEST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5


class Patience:
    """None before a message was lost, and none where only the process went that had it: another is there at once."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._until = 0.0
        self._pause_s = SHORTEST_PAUSE_S

    def begin(self) -> None:
        """The message was lost."""
        self._pause_s = SHORTEST_PAUSE_S
        self._until = 0.0 if self._link.connected else asyncio.get_running_loop().time() + PATIENCE_S

    async def wait(self, error: ConnectError) -> None:
        """Return after a pause, where it may be worth another try; else raise `error`."""
        if asyncio.get_running_loop().time() + self._pause_s > self._until:
            raise error
        await asyncio.sleep(random.uniform(self._pause_s / 2, self._pause_s))
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
