"""Signs of life of a call whose wire may be silent until its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from streaming_queue.comm.context import listener
from streaming_queue.comm.host.execution import HEARTBEAT_S


class SignsOfLife:
    """Within the block, ask every so often whether the peer is at work, and tell whoever bounds its silence."""

    __slots__ = ("_heard", "_is_at_work", "_task", "_timer")

    def __init__(self, is_at_work: Callable[[], Awaitable[bool]]) -> None:
        self._is_at_work = is_at_work
        self._heard = listener()
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        # A timer, for a task would cost every call what only the long ones need.
        self._timer = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._begin)

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="signs of life")

    async def _watch(self) -> None:
        while True:
            if await self._is_at_work():
                self._heard()
            await asyncio.sleep(HEARTBEAT_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
