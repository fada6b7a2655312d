"""SIGINT and SIGTERM: the first drains a run, the second ends the process at once, whatever hangs in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

from streaming_queue.runner.watchdog import end_process

SAME_S = 1.0
"""Signals within this time of the first one count as one, in seconds: process managers send two."""
LATE_S = 30.0
"""Longest time after the bound of the drain, in seconds; then the process ends."""


@contextlib.contextmanager
def stop_signals(first: Callable[[int], None], *, drain_s: float | None = None) -> Iterator[None]:
    """In the block the first SIGINT or SIGTERM calls `first` with its number; the second ends the process.

    With `drain_s` the process also ends `LATE_S` after that time from the first signal, if the block still runs. A
    thread sees to that, so that an event loop that hangs does not matter.
    """
    loop = asyncio.get_running_loop()
    first_at: float | None = None

    def received(number: int) -> None:
        nonlocal first_at
        if first_at is None:
            first_at = time.monotonic()
            first(number)
        elif time.monotonic() - first_at >= SAME_S:  # a library took the signals away from the tap
            end_process(128 + number)

    def arrived(number: int, frame: object) -> None:
        del frame
        loop.call_soon_threadsafe(received, number)

    numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():  # no other thread may handle signals
            stack.callback(_SignalTap(numbers, drain_s).close)
            for number in numbers:
                stack.callback(signal.signal, number, signal.signal(number, arrived))
                signal.siginterrupt(number, False)
        yield


class _SignalTap:
    """Reads the numbers of signals as the interpreter receives them, in a thread, and wakes the loop for each."""

    def __init__(self, numbers: tuple[int, ...], drain_s: float | None) -> None:
        self._numbers = numbers
        self._drain_s = drain_s
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._loops = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def close(self) -> None:
        """Give the signals back to the loop; the thread ends."""
        signal.set_wakeup_fd(self._loops, warn_on_full_buffer=False)
        os.close(self._write)

    def _watch(self) -> None:
        first_at = 0.0
        name, code = "", 0
        readable = select.poll()
        readable.register(self._read, select.POLLIN)
        while True:
            left_s = None
            if name and self._drain_s is not None:
                left_s = max(0.0, first_at + self._drain_s + LATE_S - time.monotonic())
            if not readable.poll(None if left_s is None else left_s * 1000):
                late = f"{LATE_S:g} s after the bound of its drain"
                end_process(code, f"{name}: the process still runs {late}; it ends now")
            received = os.read(self._read, 64)
            if not received:
                os.close(self._read)
                return
            for number in received:
                if number not in self._numbers:
                    continue
                now = time.monotonic()
                if not name:
                    name, code, first_at = signal.Signals(number).name, 128 + number, now
                elif now - first_at >= SAME_S:
                    end_process(128 + number)
            others = bytes(0 if number in self._numbers else number for number in received)
            with contextlib.suppress(OSError):  # the loop has enough to read
                os.write(self._loops, others)  # 0 only wakes the loop: our handler has the number
