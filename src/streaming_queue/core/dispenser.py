"""Leases in, free slots served: whoever is free first takes the oldest question that it may take."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from streaming_queue.queue.base import Lease


class Dispenser:
    """Matches leases with waiting slots. `may_take(worker_id, lease)` decides; nothing is split in advance."""

    def __init__(self, may_take: Callable[[str, Lease], bool]) -> None:
        self._may_take = may_take
        self._leases: deque[Lease] = deque()
        self._waiting: deque[tuple[str, asyncio.Future[Lease]]] = deque()
        self._taken = asyncio.Event()

    def __len__(self) -> int:
        """How many leases wait for a slot."""
        return len(self._leases)

    def offer(self, lease: Lease) -> None:
        """Give a lease to the slot that waits longest among those that may take it, else keep it for one."""
        for index, (worker_id, slot) in enumerate(self._waiting):
            if not slot.done() and self._may_take(worker_id, lease):
                del self._waiting[index]
                slot.set_result(lease)
                return
        self._leases.append(lease)

    async def take(self, worker_id: str) -> Lease:
        """The oldest lease that this worker may take; waits for one. A cancelled wait loses none."""
        for index, lease in enumerate(self._leases):
            if self._may_take(worker_id, lease):
                del self._leases[index]
                self._taken.set()
                return lease
        slot: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiting.append((worker_id, slot))
        self._taken.set()
        try:
            return await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self.offer(slot.result())
            raise

    def rematch(self) -> None:
        """Try again what is kept: who may take what has changed."""
        kept, self._leases = self._leases, deque()
        for lease in kept:
            self.offer(lease)

    async def hungry(self, below: int) -> None:
        """Wait until fewer than `below` leases are kept."""
        while len(self._leases) >= below:
            self._taken.clear()
            await self._taken.wait()

    def __iter__(self) -> Iterator[Lease]:
        return iter(tuple(self._leases))

    def drop(self) -> list[Lease]:
        """Take out every lease that is kept."""
        dropped = list(self._leases)
        self._leases.clear()
        return dropped
