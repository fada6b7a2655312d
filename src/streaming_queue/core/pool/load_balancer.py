"""A scheduler without a queue: a question waits in memory for the first free worker of the pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from streaming_queue.core.pool.in_flight_call import InFlightCall
from streaming_queue.core.pool.worker_faults import UNFIT, is_loss, poison
from streaming_queue.core.pool.worker_pool import WorkerPool
from streaming_queue.core.scheduling.handoff import Handoff
from streaming_queue.errors import (
    AgentFailedError,
    ConnectError,
    RateLimitedError,
    StreamingQueueError,
    UnavailableError,
    error_event,
    error_from_event,
)
from streaming_queue.telemetry.background import log_failure
from streaming_queue.telemetry.events import EventListener

Answer = TypeVar("Answer")

SECOND_CHANCE_S = 60.0
"""The pause of a worker that cannot work: wrong credentials, no quota, wrong configuration.

If no worker can work, the pause ends with the next question: its caller gets the reason, or an answer after a repair.
"""
FAILURES_KEPT = 4096


@dataclass(eq=False, slots=True)
class _Question:
    """A question in the pool, and the workers that failed on it so far."""

    failed_at: set[str]
    unfit: dict[str, StreamingQueueError] = field(default_factory=dict)
    losses: int = 0


class _Background:
    """Tasks that go on after the question that started them, without its context."""

    def create_task(self, coro: Coroutine[None, None, None], /, *, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coro, name=name, context=Context())
        task.add_done_callback(log_failure)
        return task


class LoadBalancer:
    """Gives each question to the worker whose slot is free longest; without a free slot the question waits.

    The balancer keeps only the failures by question and worker: a question belongs to its caller, and ends with its
    caller. If a worker is lost, silent, limited or unfit, its questions go to another worker at once.
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
        """`slots` is the number of questions each worker takes at a time; the intervals are those of `WorkerPool`."""
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
        self.failed_at: dict[str, set[str]] = {}
        """By the question's key: the workers where the question has failed, for the next attempt."""

    @property
    def ready(self) -> bool:
        """Whether `ask` makes sense: a worker can be reached, or will be after a known time, or all are unfit."""
        return self._pool.all_down_since is None or self._pool.fatal_error is not None

    async def ask(
        self,
        ask: Callable[[str], Awaitable[Answer]],
        key: str | None = None,
        *,
        may_repeat: Callable[[], bool] = lambda: True,
    ) -> Answer:
        """Wait for a free slot and `ask` its worker; a cancelled call frees the slot.

        `key` names the question: if it failed at a worker before, another worker gets it, if there is one. `may_repeat`
        decides whether another worker may get it after a worker failed in the middle of its answer.

        Raises:
            StreamingQueueError: the worker's own error.
            ConnectError: no worker can be reached; it is an UnavailableError if the question reached none.
            RateLimitedError: all workers in reach ask to slow down.
            AuthError, QuotaError, ConfigError: no worker can work.
            AgentFailedError: too many workers were lost on the question, not retryable; or it may not be repeated.
        """
        if self._watching is None or (self._watching.done() and not self._watching.cancelled()):  # it failed
            self._watching = self._tasks.create_task(self._pool.watch(), name="pool:watch")
        if self._pool.fatal_error:
            for worker_id in self._pool.workers:
                self._pool.readmit(worker_id)
        question = _Question(set(self.failed_at.get(key or "", ())))
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
                    message = f"worker {worker_id!r} failed in the middle of its answer: {error}"
                    raise AgentFailedError(message) from error
            else:
                self._pool.answered(worker_id, time.monotonic() - began)
                self.failed_at.pop(key or "", None)
                return answer
            finally:
                self._pool.left(call)
                self._free.offer(worker_id)

    def figures(self) -> dict[str, Any]:
        """The state of the pool: `slots`, `busy`, `waiting` questions, and in `members` each worker's figures."""
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
        """The reason why no worker can get this question now; None if one can."""
        if self._fit(question):
            return None
        error = self._pool.fatal_error
        if len(question.unfit) == len(self._pool.workers):  # another question may have readmitted the workers
            error = next(reversed(question.unfit.values()), None)
        if error is not None:
            return error_from_event(error_event(error))  # each question raises its own
        if (paused_s := self._pool.paused_s) is not None:
            return RateLimitedError("every worker that can be reached asks to slow down", retry_after_s=paused_s)
        cls = ConnectError if question.losses else UnavailableError
        return cls(f"no worker can be reached: {', '.join(self._pool.workers)}")

    def _on_change(self) -> None:
        self._free.turn_away(self._no_worker_for)
        self._free.rematch()

    def _failed(self, worker_id: str, question: _Question, error: StreamingQueueError, key: str | None) -> None:
        """Return if another worker may get the question at once, else raise."""
        if not self._pool.blame(worker_id, error):
            if error.retryable and key is not None:
                self._remember(worker_id, key)
            raise error
        if isinstance(error, UNFIT):
            question.unfit[worker_id] = error
        elif is_loss(error):
            question.losses += 1
            if message := poison(error, question.losses, self._max_losses):
                raise AgentFailedError(message, retryable=False) from error

    def _remember(self, worker_id: str, key: str) -> None:
        self.failed_at.setdefault(key, set()).add(worker_id)
        while len(self.failed_at) > FAILURES_KEPT:
            del self.failed_at[next(iter(self.failed_at))]
