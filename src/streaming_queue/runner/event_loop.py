"""The event loop of a command."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import sys
from collections.abc import Awaitable, Coroutine, Iterator
from typing import Any, TypeVar

from streaming_queue.runner.watchdog import Watchdog

_T = TypeVar("_T")

_M_MMAP_THRESHOLD = -3  # <malloc.h> of glibc


def run_fast(main: Coroutine[Any, Any, _T]) -> _T:
    """Run `main` on the fastest event loop of the system, and watch the loop (`watchdog`)."""
    _return_large_blocks()
    watchdog = Watchdog()
    with _freeze_objects(), contextlib.closing(watchdog):
        if sys.platform == "win32":
            return asyncio.run(watchdog.guard(main))
        import uvloop

        return uvloop.run(watchdog.guard(main))


def _return_large_blocks() -> None:
    """Let the allocator give each block above 4 MiB back to the system.

    After its first large block glibc keeps the next ones (mallopt(3), M_MMAP_THRESHOLD). Answers of many megabytes then
    left holes of a fifth of the peak. Other libraries of C have no such setting.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 4 * 1024 * 1024)


@contextlib.contextmanager
def _freeze_objects() -> Iterator[None]:
    """Freeze long-lived objects: the garbage collector's walk over them took a tenth of the CPU per question."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(10_000, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


async def first(*waits: Awaitable[Any] | None) -> None:
    """Return when one of `waits` ends, and cancel the others. Raises the error of the one that ended."""
    tasks = [asyncio.ensure_future(wait) for wait in waits if wait is not None]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
