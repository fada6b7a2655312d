"""Matches items with takers: the longest waiting taker gets the oldest item that it may take."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Taker = TypeVar("Taker")
Item = TypeVar("Item")


class Handoff(Generic[Taker, Item]):
    """Matches items with waiting takers. `may_take(taker, item)` decides; no item is assigned in advance.

    A run's slots take leases; in a load balancer, questions take free slots.
    """

    def __init__(self, may_take: Callable[[Taker, Item], bool]) -> None:
        self._may_take = may_take
        self._items: deque[Item] = deque()
        self._waiting: deque[tuple[Taker, asyncio.Future[Item]]] = deque()
        self._given: list[Taker] = []
        self._on_the_way: list[Item] = []
        self._taken = asyncio.Event()

    def __len__(self) -> int:
        """The number of items that no taker has taken."""
        return len(self._items)

    @property
    def waiting(self) -> int:
        """The number of waiting takers."""
        return len(self._waiting)

    def given(self, taker: Taker) -> int:
        """The number of items assigned to this taker whose `take` has not returned yet."""
        return self._given.count(taker)

    @property
    def on_the_way_count(self) -> int:
        """The number of items assigned to takers whose `take` has not returned yet."""
        return len(self._on_the_way)

    def on_the_way(self, item: Item) -> int:
        """The number of equal items assigned to takers whose `take` has not returned yet."""
        return self._on_the_way.count(item)

    def offer(self, item: Item) -> None:
        """Give an item to the longest waiting taker that may take it, else keep the item."""
        for index, (taker, future) in enumerate(self._waiting):
            if not future.done() and self._may_take(taker, item):
                del self._waiting[index]
                self._give(taker, future, item)
                return
        self._items.append(item)

    async def take(self, taker: Taker) -> Item:
        """The oldest item that this taker may take; waits for one. A cancelled wait loses no item."""
        for index, item in enumerate(self._items):
            if self._may_take(taker, item):
                del self._items[index]
                self._taken.set()
                return item
        future: asyncio.Future[Item] = asyncio.get_running_loop().create_future()
        entry = (taker, future)
        self._waiting.append(entry)
        self._taken.set()
        try:
            given = await future
        except BaseException:
            if entry in self._waiting:
                self._waiting.remove(entry)
            else:  # the taker was cancelled after an item was assigned to it
                self._arrived(taker, future.result())
                self.offer(future.result())
            raise
        self._arrived(taker, given)
        return given

    def _give(self, taker: Taker, future: asyncio.Future[Item], item: Item) -> None:
        self._given.append(taker)
        self._on_the_way.append(item)
        future.set_result(item)

    def _arrived(self, taker: Taker, item: Item) -> None:
        self._given.remove(taker)
        self._on_the_way.remove(item)

    def rematch(self) -> None:
        """Match the kept items again; call it when the answers of `may_take` have changed."""
        kept, self._items = self._items, deque()
        for item in kept:
            self.offer(item)
        self._taken.set()

    def invite(self, choose: Callable[[Taker], Item | None]) -> None:
        """Give each waiting taker the item that `choose` returns for it, if any."""
        for entry in tuple(self._waiting):
            taker, future = entry
            if not future.done() and (item := choose(taker)) is not None:
                self._waiting.remove(entry)
                self._give(taker, future, item)

    def turn_away(self, reason: Callable[[Taker], Exception | None]) -> None:
        """Fail the wait of each taker for which `reason` returns an error."""
        for taker, future in self._waiting:
            if not future.done() and (error := reason(taker)) is not None:
                future.set_exception(error)

    async def hungry(self, below: int) -> None:
        """Wait until fewer than `below` items are kept."""
        while len(self._items) >= below:
            self._taken.clear()
            await self._taken.wait()

    def __iter__(self) -> Iterator[Item]:
        return iter(tuple(self._items))

    def drop(self) -> list[Item]:
        """Remove and return every kept item."""
        dropped = list(self._items)
        self._items.clear()
        self._taken.set()
        return dropped
