"""Liveness: while the wire is silent, ask the agent whether it still works. A wait may last an hour."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp

from streaming_queue.comm.context import listener
from streaming_queue.errors import ConnectError, StreamingQueueError

logger = logging.getLogger(__name__)

LOOK_TIMEOUT_S = 5.0
"""The agent has this time, in seconds, to say whether it works on the message."""
MISSES = 3
"""The wait ends when the agent could not be reached this many times in a row."""

T = TypeVar("T")

Look = Callable[[], Awaitable[bool | None]]
"""Whether the agent works on the message; None: it does not know."""


class LostReplyError(ConnectError):
    """The agent has ended its work on the message, and its reply did not arrive."""


class Watch:
    """Watches one request. Work at the agent is a sign of life (`comm.context.heard`); else ConnectError ends the wait.

    It asks the agent after `interval_s` of silence, and then at that interval. The owner calls `aclose`.
    """

    def __init__(self, look: Look, interval_s: float, address: str) -> None:
        self._look = look
        self._interval_s = interval_s
        self._address = address
        self._tell = listener()
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(interval_s, self._due)
        self._looking: asyncio.Task[None] | None = None
        self._scope: asyncio.Timeout | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._error: ConnectError | None = None
        self._misses = self._idle = 0

    async def response(self, opening: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
        """Await the response's headers. Raises the error that ended the wait."""
        self._response = await self.answer(opening)
        return self._response

    async def answer(self, coming: Awaitable[T]) -> T:
        """Await the next reply. Raises the error that ended the wait, now or since the last reply."""
        try:
            async with asyncio.timeout(None if self._error is None else 0) as self._scope:
                return await coming
        except TimeoutError:
            if self._error is None:
                raise
            raise self._error from None
        finally:
            self._scope = None

    def heard(self) -> None:
        """The wire brought a sign of life."""
        self._heard_at = self._loop.time()
        self._tell()

    def _silence_s(self) -> float:
        return self._loop.time() - self._heard_at

    def _due(self) -> None:
        left_s = self._interval_s - self._silence_s()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._due)
        else:
            self._timer = None
            self._looking = asyncio.create_task(self._keep_looking(), name=f"watch:{self._address}")

    async def _keep_looking(self) -> None:
        try:
            await self._look_while_silent()
        except Exception as error:  # without this task, a silent agent would never be noticed
            logger.warning("%s: the look at the agent failed: %r", self._address, error)
            self._give_up(ConnectError(f"{self._address}: the agent is silent, and the look at it failed"))

    async def _look_while_silent(self) -> None:
        while self._error is None:
            if (left_s := self._interval_s - self._silence_s()) > 0:
                self._misses = self._idle = 0
                await asyncio.sleep(left_s)
            else:
                await self._look_once()
                await asyncio.sleep(self._interval_s)

    async def _look_once(self) -> None:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                at_work = await self._look()
        except (ConnectError, TimeoutError) as error:
            self._misses += 1
            if self._misses == MISSES:
                reason = str(error) or f"no answer within {LOOK_TIMEOUT_S:g} s"
                self._give_up(ConnectError(f"{self._address}: the agent is silent and cannot be reached: {reason}"))
            return
        except StreamingQueueError as error:
            logger.debug("%s: the agent does not say whether it works: %s", self._address, error)
            at_work = None
        self._misses = 0
        self._idle = self._idle + 1 if at_work is False else 0
        if at_work:
            self._tell()
        elif self._idle == 2:  # the first time, the reply may still arrive
            self._give_up(LostReplyError(f"{self._address}: the reply was lost: the agent has ended its work"))

    def _give_up(self, error: ConnectError) -> None:
        self._error = error
        if self._scope is not None:
            self._scope.reschedule(self._loop.time())
        elif self._response is not None:
            self._response.content.set_exception(error)

    async def aclose(self) -> None:
        """Stop asking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
