"""How long nothing may be heard of a peer that is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streaming_queue.comm.context import listening
from streaming_queue.errors import SendTimeoutError


@asynccontextmanager
async def silence_bound(limit_s: float | None, where: str) -> AsyncIterator[None]:
    """Give the block up when `comm.context.heard` was not called for `limit_s` (None: never).

    Raises SendTimeoutError, with `where` before its text.
    """
    if not limit_s:
        yield
        return
    loop = asyncio.get_running_loop()
    inside = True

    def begin_anew() -> None:
        if inside and not bound.expired():
            bound.reschedule(loop.time() + limit_s)

    try:
        async with asyncio.timeout(limit_s) as bound:
            with listening(begin_anew):
                try:
                    yield
                finally:
                    inside = False
    except TimeoutError as error:
        if not bound.expired() or isinstance(error, SendTimeoutError):
            raise
        raise SendTimeoutError(f"{where}: nothing was heard for {limit_s:g} s (network.message_timeout)") from error
