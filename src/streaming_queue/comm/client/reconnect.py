"""A connection that breaks under a message: when it is made anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

HELD_S = 1.0


class Reconnect:
    """Lets a broken connection pass, so that the block is begun anew, where the message has an idempotency key.

    It does so once, and again after each connection that held for a second: an answer may take an hour, and a network
    may break more than once an hour. What is not `broken`, and a connection that breaks at once again, is raised.
    """

    def __init__(self, *, keyed: bool, broken: Callable[[BaseException], bool]) -> None:
        self._keyed = keyed
        self._broken = broken
        self._once_more = True
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None or not self._keyed or not self._broken(error):
            return False
        held = time.monotonic() - self._began > HELD_S
        passes = held or self._once_more
        self._once_more = held
        return passes
