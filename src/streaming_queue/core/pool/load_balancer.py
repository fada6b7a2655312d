"""A scheduler without a queue: a question waits in memory for the worker of the pool that is free first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from streaming_queue.core.pool.in_flight_call import InFlightCall
from streaming_queue.core.pool.worker_pool import UNFIT, WorkerPool, poison
from streaming_queue.core.scheduling.handoff import Handoff
from streaming_queue.errors import (
    AgentFailedError,
    ConnectError,
    RateLimitedError,
    StreamingQueueError,
    error_event,
    error_from_event,
)
from streaming_queue.telemetry.events import EventListener

Answer = TypeVar("Answer")

SECOND_CHANCE_S = 60.0
"""How long a worker that cannot work gets no questions: wrong credentials, no quota, misconfigured.

Where no worker can work, the pause ends with the next question: its caller gets the reason, or finds the fault mended.
"""
FAILURES_KEPT = 4096


@dataclass(eq=False, slots=True)
class _Question:
    """A question on its way through the pool, and the workers at fault so far."""

    failed_at: set[str]
    unfit: dict[str, StreamingQueueError] = field(default_factory=dict)
    losses: int = 0


class _Background:
    """Tasks that outlive the question they began with, and have none of its context."""

    def create_task(self, coro: Coroutine[None, None, None], /, *, name: str) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coro, name=name, context=Context())


class LoadBalancer:
    """Gives each question to the worker with the slot that is free longest; a question waits where no slot is free.

    The balancer keeps only which questions failed where: a question belongs to its caller, and ends with its caller. A
    worker that is lost, silent, limited or unfit costs a question nothing while another worker can be asked.
    """

    def __init__(
        self,
        slots: Mapping[str, int],
        *,
        probe: Callable[[str], Awaitable[bool]],
        emit: EventListener,
        probe_interval_s: float = 1.0,
        gone_after_s: float = 10.0,
        second_chance_s: float = SECOND_CHANCE_S,
        max_losses: int = 5,
    ) -> None:
        """`slots` is how many questions each worker takes at a time; the intervals are those of `WorkerPool`."""
        self._max_losses = max_losses
        self._tasks = _Background()
        self._pool = WorkerPool(
            slots,
            tasks=self._tasks,
            probe=probe,
            emit=emit,
            on_change=self._on_change,
            probe_interval_s=probe_interval_s,
            gone_after_s=gone_after_s,
            second_chance_s=second_chance_s,
        )
        self._free = Handoff[_Question, str](self._may_take)
        for worker_id in self._pool.slots_in_turn():
            self._free.offer(worker_id)
        self._watching: asyncio.Task[None] | None = None
        self._failed_at: dict[str, set[str]] = {}

    @property
    def ready(self) -> bool:
        """Whether to ask: a worker can be reached, or will be in a known time, or all workers are unfit."""
        return self._pool.all_down_since is None or self._pool.fatal_error is not None

    async def ask(
        self,
        ask: Callable[[str], Awaitable[Answer]],
        key: str | None = None,
        *,
        may_repeat: Callable[[], bool] = lambda: True,
    ) -> Answer:
        """Wait for a free slot and `ask` its worker; a cancelled call frees the slot.

        `key` names the question: where it failed before, another worker gets it, if there is one. `may_repeat` decides
        whether another worker may be asked after a worker failed in the middle of its answer.

        Raises:
            StreamingQueueError: the worker's own error.
            ConnectError: no worker can be reached. RateLimitedError: all workers that can be ask to slow down.
            AuthError, QuotaError, ConfigError: no worker can work.
            AgentFailedError: the question outlived too many workers, not retryable; or it may not be repeated.
        """
        if self._watching is None:
            self._watching = self._tasks.create_task(self._pool.watch(), name="pool:watch")
        if self._pool.fatal_error:
            for worker_id in self._pool.workers:
                self._pool.readmit(worker_id)
        question = _Question(set(self._failed_at.get(key or "", ())))
        while True:
            if error := self._no_worker_for(question):
                raise error
            worker_id = await self._free.take(question)
            call = InFlightCall(worker_id)
            self._pool.asked(call)
            began = time.monotonic()
            try:
                answer = await call.run(ask(worker_id))
            except StreamingQueueError as error:
                self._failed(worker_id, question, error, key)
                if not may_repeat():
                    message = f"member {worker_id!r} failed in the middle of its answer: {error}"
                    raise AgentFailedError(message) from error
            else:
                self._pool.answered(worker_id, time.monotonic() - began)
                self._failed_at.pop(key or "", None)
                return answer
            finally:
                self._pool.left(call)
                self._free.offer(worker_id)

    def figures(self) -> dict[str, Any]:
        """The state of the pool: `slots`, `busy`, `waiting` questions, and `members` with their state and figures."""
        workers = self._pool.workers.values()
        return {
            "slots": sum(worker.slots for worker in workers),
            "busy": sum(worker.busy for worker in workers),
            "waiting": self._free.waiting,
            "members": {
                worker.worker_id: {
                    "state": worker.state,
                    "slots": worker.slots,
                    "busy": worker.busy,
                    "answered": worker.answers,
                    "failed": worker.failures,
                }
                for worker in workers
            },
        }

    def close(self) -> None:
        """Stop all probes and pauses."""
        self._pool.stop()
        if self._watching is not None:
            self._watching.cancel()

    # --- the workers for a question ---

    def _may_take(self, question: _Question, worker_id: str) -> bool:
        if not self._pool.takes(worker_id, self._free.on_the_way(worker_id)) or worker_id in question.unfit:
            return False
        return worker_id not in question.failed_at or question.failed_at.issuperset(self._fit(question))

    def _fit(self, question: _Question) -> set[str]:
        return {worker_id for worker_id in self._pool.up if worker_id not in question.unfit}

    def _no_worker_for(self, question: _Question) -> StreamingQueueError | None:
        """Why no worker can get this question now; None where a worker can."""
        if self._fit(question):
            return None
        error = self._pool.fatal_error
        if len(question.unfit) == len(self._pool.workers):  # another question may have readmitted the workers
            error = next(reversed(question.unfit.values()), None)
        if error is not None:
            return error_from_event(error_event(error))  # each question raises its own
        if (paused_s := self._pool.paused_s) is not None:
            return RateLimitedError("every member that can be reached asks to slow down", retry_after_s=paused_s)
        return ConnectError(f"no member can be reached: {', '.join(self._pool.workers)}")

    def _on_change(self) -> None:
        self._free.turn_away(self._no_worker_for)
        self._free.rematch()

    def _failed(self, worker_id: str, question: _Question, error: StreamingQueueError, key: str | None) -> None:
        """Return where another worker may get the question at once, else raise."""
        if not self._pool.blame(worker_id, error):
            if error.retryable and key is not None:
                self._remember(worker_id, key)
            raise error
        if isinstance(error, UNFIT):
            question.unfit[worker_id] = error
        elif isinstance(error, ConnectError):
            question.losses += 1
            if message := poison(error, question.losses, self._max_losses):
                raise AgentFailedError(message, retryable=False) from error

    def _remember(self, worker_id: str, key: str) -> None:
        self._failed_at.setdefault(key, set()).add(worker_id)
        while len(self._failed_at) > FAILURES_KEPT:
            del self._failed_at[next(iter(self._failed_at))]
