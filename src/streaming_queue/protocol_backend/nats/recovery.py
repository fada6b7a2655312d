"""A message that was lost on the way: when it is asked again."""

from __future__ import annotations

import asyncio
import random

from streaming_queue.errors import ConnectError
from streaming_queue.protocol_backend.nats.link import Link
from streaming_queue.protocol_backend.nats.request import LostError

HELD_S = 1.0
PATIENCE_S = 5.0
"""How long a server that went is waited for, and the agent to be back there."""
LONGEST_PAUSE_S = 0.5


class Recovery:
    """Lets a message with an idempotency key be asked again: who works on it by that key, or has its answer, gives it.

    It does so once, and again after each time that held for a second: an answer may take an hour, and processes may go
    more than once an hour. Where only the process went that had it, another must be there at once.
    """

    def __init__(self, link: Link, *, keyed: bool) -> None:
        self._link = link
        self._keyed = keyed
        self._once_more = True
        self._began = self._now()
        self._until = 0.0
        self._pause_s = 0.05

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def lost(self, lost: LostError) -> None:
        """Return where the message is to be asked again now; else raise what to tell who asked."""
        now = self._now()
        held = now - self._began > HELD_S
        if not self._keyed or not (held or self._once_more):
            raise lost.error from None
        self._once_more = held
        self._until = now if self._link.connected else now + PATIENCE_S
        self._began = now

    async def nobody(self, error: ConnectError) -> None:
        """Return, after a pause, where there may be somebody soon; else raise `error`."""
        if self._now() + self._pause_s > self._until:
            raise error
        await asyncio.sleep(random.uniform(self._pause_s / 2, self._pause_s))
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._began = self._now()
