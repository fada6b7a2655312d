"""A connection that breaks under a message: when it is made anew."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from streaming_queue.comm.http_client import BROKEN, NOT_BEGUN

HELD_S = 1.0


class Recovery:
    """Lets a broken connection pass, so that the block is begun anew, where the message has an idempotency key.

    It does so once, and again after each connection that held for a second: an answer may take an hour, and a network
    may break more than once an hour. Where nothing could be connected to, or each breaks at once, the error is raised.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._keyed = "idempotency-key" in headers
        self._once_more = True
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not self._keyed or not isinstance(error, BROKEN) or isinstance(error, NOT_BEGUN):
            return False
        held = time.monotonic() - self._began > HELD_S
        passes = held or self._once_more
        self._once_more = held
        return passes
