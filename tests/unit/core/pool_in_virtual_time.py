"""A pool of workers for tests that set its clock: `virtually` runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from unit.core.virtual_loop import VirtualLoop

from streaming_queue.core.pool.in_flight_call import InFlightCall
from streaming_queue.core.pool.worker_pool import WorkerPool
from streaming_queue.errors import StreamingQueueError
from streaming_queue.telemetry.events import Event


class NotedCall(InFlightCall):
    """Is given up again and again; its pool notes that, once for all questions of the worker at that moment."""

    def __init__(self, bench: PoolInVirtualTime, worker: str) -> None:
        super().__init__(worker)
        self.bench = bench

    def give_up(self, reason: StreamingQueueError) -> None:
        gone = (self.bench.now, self.worker_id, reason)
        if gone not in self.bench.gone:
            self.bench.gone.append(gone)


class PoolInVirtualTime:
    """`finds` says what each probe of a worker finds, the last one for ever; all that the pool tells is kept.

    Moments are seconds since the beginning.
    """

    def __init__(self, slots: dict[str, int] | None = None, **options: Any) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = loop.clock
        self.began = self.clock.now
        self.finds: dict[str, list[bool]] = {}
        self.probing: Callable[[str], Any] | None = None
        self.probes: list[tuple[float, str]] = []
        self.events: list[Event] = []
        self.changes = 0
        self.gone: list[tuple[float, str, StreamingQueueError]] = []
        self.calls: dict[str, list[InFlightCall]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.pool = WorkerPool(
            slots or {"A": 2, "B": 2},
            probe=self.probe,
            emit=self.events.append,
            on_change=self.changed,
            tasks=self,
            **options,
        )

    @property
    def now(self) -> float:
        return round(self.clock.now - self.began, 6)

    @property
    def all_down_since(self) -> float | None:
        since = self.pool.all_down_since
        return None if since is None else round(since - self.began, 6)

    def changed(self) -> None:
        self.changes += 1

    def create_task(self, coro: Any, /, *, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self.tasks.add(task)
        return task

    async def probe(self, worker: str) -> bool:
        self.probes.append((self.now, worker))
        if self.probing is not None:
            return bool(await self.probing(worker))
        found = self.finds.get(worker, [False])
        return found.pop(0) if len(found) > 1 else found[0]

    async def at(self, moment: float) -> None:
        """Until `moment`."""
        await asyncio.sleep(self.began + moment - self.clock.now)

    def fail(self, worker: str, error: StreamingQueueError, times: int = 1, **how: Any) -> list[bool]:
        return [self.pool.blame(worker, error, **how) for _ in range(times)]

    def asked(self, worker: str) -> None:
        """A question leaves for a worker."""
        self.calls.setdefault(worker, []).append(NotedCall(self, worker))
        self.pool.asked(self.calls[worker][-1])

    def left(self, worker: str) -> None:
        """A worker's oldest question has ended."""
        self.pool.left(self.calls[worker].pop(0))

    def is_up(self, worker: str) -> bool:
        return self.pool.workers[worker].up

    def state(self, worker: str) -> Any:
        return self.pool.states()[worker]["state"]

    def told(self, *kinds: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kinds)]
