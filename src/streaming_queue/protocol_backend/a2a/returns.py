"""How a message comes back to the work under way when its connection broke."""

from __future__ import annotations

import asyncio

from streaming_queue.comm.http_client import BROKEN, NOT_BEGUN
from streaming_queue.errors import ConnectError
from streaming_queue.protocol_backend.a2a.watch import LostReplyError

PAUSES_S = (0.0, 0.1, 0.2, 0.4)
"""Before each return in a row: a host that is gone is known as gone within a second."""
LASTED_S = 1.0
"""After a connection that lasted so long the pauses begin anew."""


class Returns:
    """The returns of one message. Only one that is `promised` to come back to its own work does."""

    def __init__(self, *, promised: bool) -> None:
        self._promised = promised
        self._pauses = iter(PAUSES_S)
        self._begun = False
        self._sent_at = asyncio.get_running_loop().time()

    async def after(self, error: ConnectError) -> None:
        """Wait until the message may be sent again. Raises `error` where it may not."""
        cause = error.__cause__
        broke = isinstance(error, LostReplyError) or isinstance(cause, BROKEN)
        self._begun = self._begun or not isinstance(cause, NOT_BEGUN)
        if not (self._promised and broke and self._begun):
            raise error
        loop = asyncio.get_running_loop()
        if loop.time() - self._sent_at > LASTED_S:
            self._pauses = iter(PAUSES_S)
        pause_s = next(self._pauses, None)
        if pause_s is None:
            raise error
        await asyncio.sleep(pause_s)
        self._sent_at = loop.time()
