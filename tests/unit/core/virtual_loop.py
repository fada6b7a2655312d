"""An event loop whose time does not pass but jumps: from one timer to the next, as soon as nothing else is to do."""

from __future__ import annotations

import asyncio
import functools
import selectors
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from streaming_queue.core.pool import breaker, load_balancer, stall_detector, worker_health, worker_pool
from streaming_queue.core.scheduling import attempts, retry_budget, scheduler, waiting

MODULES: tuple[ModuleType, ...] = (
    attempts,
    breaker,
    load_balancer,
    retry_budget,
    scheduler,
    stall_detector,
    worker_health,
    worker_pool,
    waiting,
)


MOST_TURNS = 10_000
"""Of the loop at one moment."""


RESOLUTION_S = 1e-9
"""The loop runs timers so much too early, in terms of which nothing would be over yet."""


class VirtualTime:
    """What these modules take from `time`, and the loop's clock."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic


class _Jumping(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    def __init__(self, clock: VirtualTime) -> None:
        super().__init__()
        self._clock = clock
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready: list[Any] = super().select(0)
        self._turns = self._turns + 1 if timeout == 0 else 0
        assert self._turns < MOST_TURNS, "somebody is busy without end, and time does not go on"
        if not ready:
            assert timeout is not None, "everybody waits, and no timer is set: it would hang for ever"
            self._clock.now += timeout + RESOLUTION_S
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Virtual time in the loop; `in_virtual_time` has it in the core, too."""

    def __init__(self, clock: VirtualTime) -> None:
        super().__init__(_Jumping(clock))
        self.clock = clock

    def time(self) -> float:
        return self.clock.now


@contextmanager
def in_virtual_time(clock: VirtualTime) -> Iterator[None]:
    """The core tells the time by `clock`."""
    before = [(module, module.time) for module in MODULES]
    for module in MODULES:
        module.time = clock  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module, its in before:
            module.time = its  # type: ignore[attr-defined]


def virtually(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run the test in a loop of its own, whose time jumps."""

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        clock = VirtualTime()
        with in_virtual_time(clock), asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
            runner.run(test(*args, **options))  # type: ignore[arg-type]

    return run
