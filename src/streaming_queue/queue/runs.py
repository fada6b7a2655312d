"""A queue of many runs: each has its own questions and rows, and all share the workers fairly."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from streaming_queue.errors import ConfigError, LeaseLostError, QueueClosedError, UnknownRunError
from streaming_queue.messages import Counts, Failure, Outcome, PutReport, Question, Result
from streaming_queue.queue.base import Lease, LeaseQueue, WorkQueue
from streaming_queue.queue.fair_share import FairShare
from streaming_queue.queue.run_store import RunFacts, RunStore, check_name

MOST_ACTIVE = 64
"""Runs that share the workers. More runs with open questions wait until one of these has none."""
MOST_OPEN = 2 * MOST_ACTIVE
"""Queues of runs that are open at a time; a queue without work is closed first."""
DRY_S = 0.05
"""Pause before a run is looked at again whose open questions are all delayed, in seconds."""


class QueueOfRuns(LeaseQueue):
    """The runs of a store. Used in the event loop that opened it.

    A lease names its run, and its holder gives it back here. Calls for a run raise UnknownRunError if there is none of
    that name, and the errors of its WorkQueue.
    """

    def __init__(self, store: RunStore) -> None:
        """Made by `open`."""
        self._store = store
        self._facts: dict[str, RunFacts] = {}
        self._open: dict[str, WorkQueue] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._used: dict[str, None] = {}
        self._users: dict[str, int] = {}
        self._share = FairShare()
        self._dry: dict[str, float] = {}
        self._busy: dict[str, None] = {}  # the runs that may have open questions, in the order in which they got them
        self._news = asyncio.Event()
        self._changes: dict[str, asyncio.Event] = {}
        self._paused = self._closed = False

    @classmethod
    async def open(cls, store: RunStore) -> QueueOfRuns:
        """Open the queue. Runs with open questions go on."""
        queue = cls(store)
        queue._facts = {facts.name: facts for facts in await store.all()}
        for name in list(queue._facts):
            await queue.run(name)  # counts those that a dead process had open
            queue._busy[name] = None
        return queue

    # --- runs ---

    async def create(
        self, name: str, *, weight: float = 1.0, settings: Mapping[str, Any] | None = None
    ) -> tuple[RunFacts, bool]:
        """Make a run, and say whether it is new. A known run keeps its facts.

        Raises:
            ConfigError: the name cannot be used, or the weight is not between 0.01 and 100.
        """
        self._check_open()
        if name in self._facts:
            return await self.run(name), False
        if not 0.01 <= weight <= 100:
            raise ConfigError(f"run {name!r}: its weight {weight:g} is not between 0.01 and 100")
        facts = self._facts[check_name(name)] = RunFacts(name, weight, dict(settings or {}))
        try:
            await self._store.save(facts)
        except BaseException:
            self._facts.pop(name, None)
            raise
        return facts, True

    async def runs(self) -> list[RunFacts]:
        """The newest facts of all runs, the oldest run first."""
        self._check_open()
        return [await self.run(name) if name in self._open else facts for name, facts in list(self._facts.items())]

    async def run(self, name: str) -> RunFacts:
        """The newest facts of a run."""
        facts = self.facts(name)
        queue = self._open.get(name)
        if queue is None and facts.counts is not None:
            return facts
        async with self._using(name) as queue:
            state, counts = await queue.run_state(), await queue.counts()
            if name in self._facts:
                self._facts[name] = facts = replace(self._facts[name], state=state, counts=counts)
        return facts

    async def put(self, run: str, questions: Sequence[Question]) -> PutReport:
        """See `WorkQueue.put`."""
        async with self._using(run) as queue:
            report = await queue.put(questions)
            await self._changed(run)
            return report

    async def rows(self, run: str, after: str = "", limit: int = 1000) -> list[Outcome]:
        """The rows of a run after a cursor; empty text is the beginning. See `WorkQueue.results`.

        Raises:
            ConfigError: it is no cursor, or not one of this run.
        """
        async with self._using(run) as queue:
            return await queue.results(await queue.number_of(after), limit)

    def next_change(self, run: str) -> asyncio.Event:
        """An event that is set when the run has a new row or another state. Take it before you read the rows."""
        return self._changes.setdefault(run, asyncio.Event())

    def _tell(self, run: str) -> None:
        if (event := self._changes.pop(run, None)) is not None:
            event.set()

    async def seal(self, run: str) -> None:
        """See `WorkQueue.seal`."""
        async with self._using(run) as queue:
            await queue.seal()
            await self._changed(run)

    async def cancel(self, run: str) -> int:
        """See `WorkQueue.cancel`."""
        async with self._using(run) as queue:
            ended = await queue.cancel()
            await self._changed(run)
            return ended

    async def stop(self, run: str) -> None:
        """Give no leases of a run until `go_on`; its questions in flight go on. Durable, idempotent."""
        await self._set_stopped(run, stopped=True)

    async def go_on(self, run: str) -> None:
        """Give leases of a run again. Idempotent."""
        await self._set_stopped(run, stopped=False)

    async def _set_stopped(self, run: str, *, stopped: bool) -> None:
        await self.run(run)
        facts = self._facts[run] = replace(self._facts[run], stopped=stopped)
        await self._store.save(replace(facts, counts=None) if run in self._open else facts)
        self._busy[run] = None
        self._news.set()

    async def replay(self, run: str, *, ids: Sequence[str] | None = None, failure_type: str | None = None) -> int:
        """See `WorkQueue.replay`."""
        async with self._using(run) as queue:
            count = await queue.replay(ids=ids, failure_type=failure_type)
            await self._changed(run)
            return count

    async def remove(self, run: str) -> None:
        """Delete a run, its questions and rows. Leases of the run are lost."""
        self.facts(run)
        async with self._opening.setdefault(run, asyncio.Lock()):
            self.facts(run)  # another call may have been first
            del self._facts[run]  # from here on its leases are lost
            self._used.pop(run, None)
            if (queue := self._open.pop(run, None)) is not None:
                await queue.close()
            await self._store.remove(run)
        self._opening.pop(run, None)
        self._tell(run)

    def facts(self, run: str) -> RunFacts:
        """The facts of a run, whose counts and state may be old: `run` counts."""
        self._check_open()
        try:
            return self._facts[run]
        except KeyError:
            raise UnknownRunError(f"there is no run {run[:100]!r}") from None

    def _check_open(self) -> None:
        if self._closed:
            raise QueueClosedError("the queue is closed")

    async def _changed(self, run: str) -> None:
        """Note that a run may have questions, or has ended."""
        await self.run(run)
        self._dry.pop(run, None)
        self._busy[run] = None
        self._tell(run)
        self._news.set()

    @contextlib.asynccontextmanager
    async def _using(self, run: str) -> AsyncIterator[WorkQueue]:
        """The queue of a run, which stays open within the block."""
        self._users[run] = self._users.get(run, 0) + 1
        try:
            yield await self._queue(run)
        finally:
            self._users[run] -= 1
            if not self._users[run]:
                del self._users[run]

    async def _queue(self, run: str) -> WorkQueue:
        self.facts(run)
        self._used.pop(run, None)
        self._used[run] = None  # the newest stands last
        if (queue := self._open.get(run)) is not None:
            return queue
        async with self._opening.setdefault(run, asyncio.Lock()):
            self.facts(run)
            if run not in self._open:
                await self._put_some_away()
                facts = self.facts(run)
                if facts.counts is not None:
                    await self._store.save(replace(facts, counts=None))
                self._open[run] = await self._store.open(run)
            return self._open[run]

    async def _put_some_away(self) -> None:
        """Close the queue without leases that was not used for the longest time, if too many are open."""
        if len(self._open) < MOST_OPEN:
            return
        for name in list(self._used):
            if name in self._open and name not in self._users and not (await self._open[name].counts()).leased:
                async with self._opening.setdefault(name, asyncio.Lock()):
                    if name in self._open and name not in self._users:
                        await self._put_away(name)
                        return

    async def _put_away(self, name: str) -> None:
        queue = self._open.pop(name)  # at once, so that no call gets a queue that closes
        self._used.pop(name, None)
        state, counts = await queue.run_state(), await queue.counts()
        facts = self._facts[name] = replace(self._facts[name], state=state, counts=counts)
        await self._store.put_away(name, queue)
        await self._store.save(replace(facts, counts=None) if counts.leased else facts)

    # --- leases ---

    async def lease(self, limit: int, wait_s: float = 0.0) -> list[Lease]:
        """See LeaseQueue. The runs with open questions share the leases by their weights."""
        until = time.monotonic() + wait_s
        leases: list[Lease] = []
        while not self._closed:
            self._news.clear()
            try:
                await self._fill(leases, limit)
            except BaseException:
                await asyncio.shield(self._hand_back(leases))
                raise
            left_s = until - time.monotonic()
            if leases or left_s <= 0:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, DRY_S) if self._dry else left_s):
                    await self._news.wait()
        return leases

    async def _fill(self, leases: list[Lease], limit: int) -> None:
        while not self._paused and len(leases) < limit:
            demands = await self._demands()
            shares = self._share.share(limit - len(leases), demands)
            if not shares:
                return
            for run, count in shares.items():
                try:
                    async with self._using(run) as queue:
                        got = await queue.lease(count)
                except (UnknownRunError, QueueClosedError):
                    if run in self._facts:
                        raise
                    continue  # the run was removed meanwhile
                leases += [replace(lease, run=run) for lease in got]
                if len(got) < count:
                    self._dry[run] = time.monotonic() + DRY_S

    async def _demands(self) -> dict[str, tuple[float, int]]:
        """By run: its weight and the number of its questions that are not leased; of the active runs."""
        now = time.monotonic()
        self._dry = {run: until for run, until in self._dry.items() if until > now}
        demands: dict[str, tuple[float, int]] = {}
        active = 0
        for name in list(self._busy):
            facts = self._facts.get(name)
            queue = self._open.get(name)
            counts = None if facts is None else facts.counts if queue is None else await queue.counts()
            if facts is None or facts.stopped or not counts or not counts.open:
                del self._busy[name]  # `_changed` and `go_on` bring it back
                continue
            active += 1
            if name not in self._dry:
                demands[name] = (facts.weight, counts.ready)
            if active == MOST_ACTIVE:
                break
        return demands

    async def _hand_back(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            await self.release(lease)

    @contextlib.asynccontextmanager
    async def _settling(self, lease: Lease) -> AsyncIterator[WorkQueue]:
        """The queue of a lease, which may change within the block. Raises LeaseLostError if its run was removed."""
        self._check_open()
        try:
            async with self._using(lease.run) as queue:
                yield queue
        except (UnknownRunError, QueueClosedError):
            if lease.run in self._facts:
                raise
            raise lease.lost_error() from None
        self._tell(lease.run)
        self._news.set()

    def sent(self, lease: Lease) -> None:
        """See LeaseQueue."""
        if (queue := self._open.get(lease.run)) is not None:
            queue.sent(lease)

    async def commit(self, lease: Lease, result: Result) -> bool:
        """See LeaseQueue. False as well if the run was removed."""
        try:
            async with self._settling(lease) as queue:
                return await queue.commit(lease, result)
        except LeaseLostError:
            return False

    async def retry(self, lease: Lease, delay_s: float, failure: Failure) -> None:
        """See LeaseQueue."""
        async with self._settling(lease) as queue:
            await queue.retry(lease, delay_s, failure)

    async def release(
        self, lease: Lease, delay_s: float = 0.0, *, failure: Failure | None = None, refused: bool = False
    ) -> None:
        """See LeaseQueue."""
        async with self._settling(lease) as queue:
            await queue.release(lease, delay_s, failure=failure, refused=refused)

    async def bury(self, lease: Lease, failure: Failure) -> None:
        """See LeaseQueue."""
        async with self._settling(lease) as queue:
            await queue.bury(lease, failure)

    async def extend(self, lease: Lease) -> None:
        """See LeaseQueue."""
        async with self._settling(lease) as queue:
            await queue.extend(lease)

    async def counts(self) -> Counts:
        """The questions of all runs, by state."""
        counts = [facts.counts or Counts() for facts in await self.runs()]
        return Counts(
            sum(each.ready for each in counts),
            sum(each.leased for each in counts),
            sum(each.done for each in counts),
            sum(each.dead for each in counts),
        )

    def pause(self) -> None:
        """See LeaseQueue."""
        self._paused = True

    def resume(self) -> None:
        """See LeaseQueue."""
        self._paused = False
        self._news.set()

    async def close(self) -> None:
        """Close the queues of all runs, and the store; idempotent. Raises QueueError: a disk failed."""
        if self._closed:
            return
        self._closed = True
        self._news.set()
        errors: list[Exception] = []
        for name in list(self._open):
            try:
                await self._put_away(name)
            except Exception as error:
                errors.append(error)
        await self._store.close()
        if errors:
            raise errors[0]
