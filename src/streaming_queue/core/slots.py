"""The slots of a pool, lent to one question at a time: whoever is free first is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from streaming_queue.core.in_flight_call import InFlightCall
from streaming_queue.core.pool.worker_pool import UNFIT, WorkerPool
from streaming_queue.core.scheduling.handoff import Handoff
from streaming_queue.errors import (
    AgentFailedError,
    ConnectError,
    RateLimitedError,
    StreamingQueueError,
    error_event,
    error_from_event,
)
from streaming_queue.telemetry.events import Listener

Answer = TypeVar("Answer")

SECOND_CHANCE_S = 60.0
"""How long a member is left alone that cannot work: wrong credentials, no quota, misconfigured.

Where that is all of them, no longer than until the next question: it is told why, or finds it mended.
"""
FAILURES_KEPT = 4096


@dataclass(slots=True)
class MemberFigures:
    """What became of the questions that one member was asked."""

    slots: int
    busy: int = 0
    answered: int = 0
    failed: int = 0


@dataclass(eq=False, slots=True)
class _Question:
    """A question on its way through the pool: whose fault it was so far."""

    failed_at: set[str]
    unfit: dict[str, StreamingQueueError] = field(default_factory=dict)
    losses: int = 0


class _Background:
    """Tasks that outlive the question they began with, and know nothing of it."""

    def create_task(self, coro: Coroutine[None, None, None], /, *, name: str) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coro, name=name, context=Context())


class Slots:
    """Free slots of the pool's members; a question takes the one that is free longest, or waits for one.

    It keeps nothing but who failed at what: a question is its caller's, and gone with it. A member that cannot be
    reached, stands still, asks to slow down or cannot work costs a question nothing while another is there.
    """

    def __init__(
        self,
        slots: Mapping[str, int],
        *,
        probe: Callable[[str], Awaitable[bool]],
        emit: Listener,
        probe_interval_s: float = 1.0,
        gone_after_s: float = 10.0,
        max_losses: int = 5,
    ) -> None:
        """`slots` is how many questions each member takes at a time; `gone_after_s` see `WorkerPool`."""
        self.members = {member: MemberFigures(count) for member, count in slots.items()}
        self._max_losses = max_losses
        self._pool = WorkerPool(
            slots,
            probe=probe,
            emit=emit,
            on_change=self._on_change,
            on_gone=self._on_gone,
            probe_interval_s=probe_interval_s,
            gone_after_s=gone_after_s,
        )
        self._free = Handoff[_Question, str](self._may_take)
        for number in range(max(slots.values(), default=0)):
            for member in slots:
                if number < slots[member]:
                    self._free.offer(member)
        self._tasks = _Background()
        self._watching: asyncio.Task[None] | None = None
        self._calls_in_flight: dict[InFlightCall, None] = {}
        self._failed_at: dict[str, set[str]] = {}
        self._second_chances: dict[str, asyncio.TimerHandle] = {}

    @property
    def ready(self) -> bool:
        """Whether to ask: a member can be reached or will be in a known time, or none is lost and all are unfit."""
        return self._pool.all_down_since is None or self._pool.fatal_error is not None

    async def ask(
        self,
        ask: Callable[[str], Awaitable[Answer]],
        key: str | None = None,
        *,
        may_repeat: Callable[[], bool] = lambda: True,
    ) -> Answer:
        """Wait for a free slot and `ask` its member; cancelled, it gives the slot back.

        `key` names the question whenever it comes again: it is asked elsewhere then, where there is an elsewhere.
        `may_repeat` says whether another member may be asked where one failed in the middle.

        Raises:
            StreamingQueueError: what the member raised.
            ConnectError: no member can be reached. RateLimitedError: all that can be ask to slow down.
            AuthError, QuotaError, ConfigError: no member can work.
            AgentFailedError: the question outlived too many members, not retryable; or it may not be repeated.
        """
        if self._watching is None:
            self._watching = self._tasks.create_task(self._pool.watch(self._tasks), name="pool:watch")
        if self._pool.fatal_error:
            for member in tuple(self._second_chances):
                self._readmit(member)
        question = _Question(set(self._failed_at.get(key or "", ())))
        while True:
            if error := self._nobody_for(question):
                raise error
            member = await self._free.take(question)
            figures = self.members[member]
            figures.busy += 1
            self._pool.asked(member)
            began = time.monotonic()
            try:
                answer = await self._at(member, ask(member))
            except StreamingQueueError as error:
                figures.failed += 1
                self._failed(member, question, error, key)
                if not may_repeat():
                    raise AgentFailedError(f"member {member!r} failed in the middle of its answer: {error}") from error
            else:
                figures.answered += 1
                self._pool.answered(member, time.monotonic() - began)
                self._failed_at.pop(key or "", None)
                return answer
            finally:
                figures.busy -= 1
                self._pool.left(member)
                self._free.offer(member)

    async def _at(self, member: str, asking: Awaitable[Answer]) -> Answer:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("members are asked in tasks only")
        call_in_flight = InFlightCall(member, task)
        self._calls_in_flight[call_in_flight] = None
        try:
            return await call_in_flight.run(asking)
        finally:
            del self._calls_in_flight[call_in_flight]

    def figures(self) -> dict[str, Any]:
        """Where the pool stands: `slots`, `busy`, `waiting` questions, and `members` with their state and figures."""
        members = {}
        for member, figures in self.members.items():
            health = self._pool.workers[member]
            state = "up" if health.up else "out" if health.out else "paused" if health.paused_until else "down"
            members[member] = {
                "state": state,
                "slots": figures.slots,
                "busy": figures.busy,
                "answered": figures.answered,
                "failed": figures.failed,
            }
        return {
            "slots": sum(figures.slots for figures in self.members.values()),
            "busy": sum(figures.busy for figures in self.members.values()),
            "waiting": self._free.waiting,
            "members": members,
        }

    def close(self) -> None:
        """Stop probing and waiting."""
        self._pool.stop()
        if self._watching is not None:
            self._watching.cancel()
        for timer in self._second_chances.values():
            timer.cancel()

    # --- who may be asked ---

    def _may_take(self, question: _Question, member: str) -> bool:
        if not self._pool.takes(member, self._free.on_the_way(member)) or member in question.unfit:
            return False
        return member not in question.failed_at or question.failed_at.issuperset(self._fit(question))

    def _fit(self, question: _Question) -> set[str]:
        return {member for member in self._pool.up if member not in question.unfit}

    def _nobody_for(self, question: _Question) -> StreamingQueueError | None:
        """Why no member can be asked this question now; None where one can."""
        if self._fit(question):
            return None
        error = self._pool.fatal_error
        if len(question.unfit) == len(self.members):  # the others may have been readmitted meanwhile
            error = next(reversed(question.unfit.values()), None)
        if error is not None:
            return error_from_event(error_event(error))  # each question raises its own
        if (paused_s := self._pool.paused_s) is not None:
            return RateLimitedError("every member that can be reached asks to slow down", retry_after_s=paused_s)
        return ConnectError(f"no member can be reached: {', '.join(self.members)}")

    def _on_change(self) -> None:
        self._free.turn_away(self._nobody_for)
        self._free.rematch()

    def _on_gone(self, member: str, error: StreamingQueueError) -> None:
        for call_in_flight in [
            call_in_flight for call_in_flight in self._calls_in_flight if call_in_flight.worker_id == member
        ]:
            call_in_flight.give_up(error)

    def _failed(self, member: str, question: _Question, error: StreamingQueueError, key: str | None) -> None:
        """Return where the question may be asked elsewhere at once, else raise."""
        if not self._pool.blame(member, error, self._tasks):
            if error.retryable and key is not None:
                self._remember(member, key)
            raise error
        if isinstance(error, UNFIT):
            question.unfit[member] = error
            if member not in self._second_chances:
                timer = asyncio.get_running_loop().call_later(SECOND_CHANCE_S, self._readmit, member)
                self._second_chances[member] = timer
        elif isinstance(error, ConnectError):
            question.losses += 1
            if question.losses >= self._max_losses:
                told = f"lost {question.losses} members in a row, last: {error}"
                raise AgentFailedError(told, retryable=False) from error

    def _readmit(self, member: str) -> None:
        self._second_chances.pop(member).cancel()
        self._pool.readmit(member)

    def _remember(self, member: str, key: str) -> None:
        self._failed_at.setdefault(key, set()).add(member)
        while len(self._failed_at) > FAILURES_KEPT:
            del self._failed_at[next(iter(self._failed_at))]
