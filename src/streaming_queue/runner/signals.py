"""SIGINT and SIGTERM: the first drains a run, the second ends the process at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_signals(first: Callable[[int], None]) -> Iterator[None]:
    """In the block the first SIGINT or SIGTERM calls `first` with its number; the second ends the process."""
    loop = asyncio.get_running_loop()
    seen = False

    def received(number: int) -> None:
        nonlocal seen
        if seen:
            os._exit(128 + number)
        seen = True
        first(number)

    numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in numbers:
            loop.add_signal_handler(number, received, number)
    except (NotImplementedError, RuntimeError):  # Windows, or a loop outside of the main thread
        numbers = ()
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
