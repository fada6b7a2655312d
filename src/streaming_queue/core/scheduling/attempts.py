"""Attempts of leased questions; each answer is recorded, each failed question retried, given back or given up."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace

from streaming_queue.core.pool.in_flight_call import InFlightCall
from streaming_queue.core.pool.worker_faults import is_loss, poison
from streaming_queue.core.pool.worker_pool import WorkerPool
from streaming_queue.core.scheduling.answer_budget import AnswerBudget
from streaming_queue.core.scheduling.auto import ProtocolChoice
from streaming_queue.core.scheduling.hedging import Hedging
from streaming_queue.core.scheduling.retry_budget import RetryBudget
from streaming_queue.core.scheduling.settings import SchedulerSettings
from streaming_queue.errors import (
    BadResponseError,
    LeaseLostError,
    RateLimitedError,
    SendTimeoutError,
    StreamingQueueError,
    UnavailableError,
)
from streaming_queue.messages import Failure, ReplyMetadata, Result
from streaming_queue.queue.base import Lease, LeaseQueue
from streaming_queue.telemetry.events import Answered, DeadLettered, Duplicate, EventListener, Hedged, Retried, Sent

TOO_LATE_S = 0.05
"""With less time left, in seconds, no question is sent: its answer would be too late."""

LONG_S = 60.0
"""A shorter time of an attempt is exact, and goes along with the question; a longer one is checked now and then."""
MOST_TIMEOUTS = 2
"""A question is given up after so many attempts that timed out: a third one would only take as long again."""

Ask = Callable[[str, Lease, float | None], Awaitable[tuple[str, ReplyMetadata]]]
"""Asks a worker a leased question, until a time of the monotonic clock; returns the answer and its metadata.

Raises StreamingQueueError.
"""


class Attempt(InFlightCall):
    """A leased question at a worker, in the task of a slot."""

    __slots__ = ("began", "lease")

    def __init__(self, worker_id: str, lease: Lease) -> None:
        super().__init__(worker_id)
        self.lease = lease
        self.began = time.perf_counter()


class SupersededError(StreamingQueueError):
    """Another worker answered first. This error stays inside `Attempts`."""


class Attempts:
    """The attempts in flight; it settles each by its outcome."""

    def __init__(
        self,
        queue: LeaseQueue,
        ask: Ask,
        pool: WorkerPool,
        *,
        protocol_of: Callable[[str], str],
        emit: EventListener,
        settings: SchedulerSettings,
        choice: ProtocolChoice | None = None,
    ) -> None:
        self.in_flight: dict[Attempt, None] = {}
        self.failed_at: dict[str, set[str]] = {}
        """By question: the workers where the question has failed."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when more answers fit into memory than before."""
        self.hedging = Hedging() if settings.hedge else None
        self._queue = queue
        self._ask = ask
        self._pool = pool
        self._protocol_of = protocol_of
        self._emit = emit
        self._settings = settings
        self._choice = choice
        self._budget = RetryBudget(share=settings.retry_share, per_s=settings.retry_per_s)
        self._answers = AnswerBudget()
        self._deadlines: dict[str, float] = {}
        self._timeouts: dict[str, int] = {}

    def has_room(self, on_the_way: int) -> bool:
        """Whether the answer of one more question fits into memory, besides those of the questions in flight."""
        return self._answers.has_room(len(self.in_flight) + on_the_way)

    async def make(self, worker_id: str, lease: Lease, *, is_duplicate: bool = False) -> None:
        """Ask the worker in the caller's task, and settle the lease by the outcome. Raises QueueError only."""
        attempt = Attempt(worker_id, lease)
        self.in_flight[attempt] = None
        self._pool.asked(attempt)
        self._queue.sent(lease)
        self._budget.asked()
        if self.hedging:
            self.hedging.asked(duplicate=is_duplicate)
        self._emit(Hedged(lease.key, worker_id) if is_duplicate else Sent(lease.key, worker_id, lease.attempt))
        queue_ms = lease.waited_ms + (time.monotonic() - lease.leased_at) * 1000
        try:
            try:
                answer, metadata = await attempt.run(self._answer(attempt))
                if not answer or answer.isspace():
                    raise BadResponseError(f"worker {worker_id!r}: the answer is blank")
            except StreamingQueueError as error:
                await self._failed(attempt, error)
            else:
                await self._answered(attempt, answer, metadata, queue_ms)
        finally:
            self._pool.left(attempt)
        self.in_flight.pop(attempt, None)  # a cancelled attempt stays, and its lease goes back

    async def _answer(self, attempt: Attempt) -> tuple[str, ReplyMetadata]:
        """The worker's answer, within its time. Raises the worker's error, and SendTimeoutError."""
        until = self._until(attempt.lease)
        if until is None:
            return await self._ask(attempt.worker_id, attempt.lease, None)
        try:
            async with asyncio.timeout(until - time.monotonic()):
                return await self._ask(attempt.worker_id, attempt.lease, until)
        except TimeoutError as error:
            if isinstance(error, StreamingQueueError):
                raise
            seconds = time.perf_counter() - attempt.began
            raise _no_answer(attempt.worker_id, seconds) from None

    async def _answered(self, attempt: Attempt, answer: str, metadata: ReplyMetadata, queue_ms: float) -> None:
        lease, seconds = attempt.lease, time.perf_counter() - attempt.began
        result = self._result(attempt, answer, metadata, queue_ms=queue_ms, seconds=seconds)
        self._pool.answered(attempt.worker_id, seconds)
        self._budget.ended(failed=False)
        if self._choice:
            self._choice.answered(attempt.worker_id, result)
        self._forget(lease.key)
        if self._answers.answered(result.response_bytes or 0):
            self.on_room()
        first = await self._queue.commit(lease, result)
        self._emit(Answered(lease.key, result, lease.attempt) if first else Duplicate(lease.key, attempt.worker_id))
        if self.hedging:
            self.hedging.answered(seconds)
            for rival in self._rivals(attempt):
                rival.give_up(SupersededError())

    # --- time ---

    def _until(self, lease: Lease) -> float | None:
        """The end of an attempt's time, by the monotonic clock; None: no limit."""
        settings, now = self._settings, time.monotonic()
        limit_s = settings.attempt_timeout_s
        until = None if limit_s is None or limit_s >= LONG_S else now + limit_s
        if settings.question_timeout_s is not None:
            deadline = self._deadlines.setdefault(lease.key, now + settings.question_timeout_s)
            until = deadline if until is None else min(until, deadline)
        return until

    def expire(self) -> None:
        """Give up the attempts that have taken too long. A timer for each would cost a tenth of a question's CPU."""
        limit_s = self._settings.attempt_timeout_s
        if limit_s is None or limit_s < LONG_S:
            return
        now = time.perf_counter()
        for attempt in list(self.in_flight):  # in the order of their start
            if now - attempt.began < limit_s:
                return
            attempt.give_up(_no_answer(attempt.worker_id, limit_s))

    def _is_over(self, lease: Lease) -> bool:
        """Whether too little time is left for another attempt."""
        deadline = self._deadlines.get(lease.key)
        return deadline is not None and deadline - time.monotonic() < TOO_LATE_S

    # --- hedging ---

    def slowest(self, worker_id: str, *, but: Collection[str]) -> Lease | None:
        """The slowest question at another worker that this worker may get too; none of `but`."""
        if self.hedging is None or (after_s := self.hedging.after_s()) is None:
            return None
        now = time.perf_counter()
        for attempt in self.in_flight:  # in the order of their start
            if now - attempt.began < after_s:
                return None
            taken = attempt.lease.key in but or self._rivals(attempt)
            if attempt.worker_id != worker_id and attempt.is_open and not taken:
                return attempt.lease
        return None

    def _rivals(self, attempt: Attempt) -> list[Attempt]:
        lease_key = attempt.lease.key
        return [other for other in self.in_flight if other is not attempt and other.lease.key == lease_key]

    # --- ends ---

    def _result(
        self, attempt: Attempt, answer: str, metadata: ReplyMetadata, *, queue_ms: float, seconds: float
    ) -> Result:
        llm_ms = _number(metadata.get("llm_ms"))
        model, mock, usage = metadata.get("model"), metadata.get("mock"), metadata.get("usage")
        return Result(
            answer=answer,
            worker=attempt.worker_id,
            protocol=self._protocol_of(attempt.worker_id),
            response_time_s=seconds,
            queue_ms=queue_ms,
            protocol_ms=None if llm_ms is None else max(0.0, seconds * 1000 - llm_ms),
            llm_ms=llm_ms,
            ttft_ms=_number(metadata.get("ttft_ms")),
            request_bytes=len(attempt.lease.question.text.encode()),
            response_bytes=len(answer.encode()),
            model=model if isinstance(model, str) else None,
            mock=mock if isinstance(mock, bool) else None,
            usage=usage if isinstance(usage, Mapping) else None,
            truncated=True if metadata.get("truncated") is True else None,
        )

    async def _failed(self, attempt: Attempt, error: StreamingQueueError) -> None:
        """Retry, give back or give up, by the class of the error."""
        if isinstance(error, SupersededError):
            return
        lease, worker_id = attempt.lease, attempt.worker_id
        if self._choice:
            self._choice.failed(worker_id, error)
        workers_own = self._pool.blame(worker_id, error, suspect=lease.attempt > 1)
        if not workers_own:
            self._forgive(lease.key)
            self._budget.ended(failed=True)
        elif isinstance(error, UnavailableError) and lease.attempt == 1 and not lease.losses:
            self._deadlines.pop(lease.key, None)  # the time of a question begins when a worker gets it
        if self.hedging and any(rival.lease.fence >= lease.fence for rival in self._rivals(attempt)):
            return  # another attempt still has the question, with a lease that is not older
        seconds = time.perf_counter() - attempt.began
        failure = Failure.of(error, worker=worker_id, protocol=self._protocol_of(worker_id), response_time_s=seconds)
        try:
            if self._is_over(lease):
                await self.bury(lease, _overdue(failure, self._settings.question_timeout_s))
            elif workers_own:
                await self._elsewhere(lease, error, failure)
            elif not error.retryable or lease.attempt >= self._settings.max_attempts or self._hangs(lease, error):
                await self.bury(lease, failure)
            else:
                self.failed_at.setdefault(lease.key, set()).add(worker_id)
                later_s = self._budget.reserve() if self._budget.holds else 0.0
                await self._queue.retry(lease, max(self._jitter_s(lease.attempt), later_s), failure)
                self._emit(Retried(lease.key, failure, lease.attempt, counted=True))
        except LeaseLostError:
            return

    def _hangs(self, lease: Lease, error: StreamingQueueError) -> bool:
        """Whether too many attempts of the question have timed out."""
        if not isinstance(error, SendTimeoutError):
            return False
        self._timeouts[lease.key] = self._timeouts.get(lease.key, 0) + 1
        return self._timeouts[lease.key] >= MOST_TIMEOUTS

    def _forgive(self, question_id: str) -> None:
        """Forgive the first worker if the question fails at a second one: the question is the cause."""
        before = self.failed_at.get(question_id, ())
        if len(before) == 1:
            self._pool.forgive(next(iter(before)))

    def _jitter_s(self, attempt: int) -> float:
        settings = self._settings
        ceiling_s: float = min(settings.retry_cap_s, settings.retry_base_s * 2.0 ** min(attempt - 1, 64))
        return random.uniform(0, ceiling_s)

    async def _elsewhere(self, lease: Lease, error: StreamingQueueError, failure: Failure) -> None:
        """Give the question back without counting the attempt, unless too many workers were lost on it."""
        if message := poison(error, lease.losses + 1, self._settings.max_attempts):
            await self.bury(lease, replace(failure, message=message))
            return
        lost = is_loss(error)
        delay_s = self._budget.reserve() if isinstance(error, RateLimitedError) else 0.0
        await self._queue.release(lease, delay_s, failure=failure if lost else None, refused=not lost)
        self._emit(Retried(lease.key, failure, lease.attempt, counted=False))

    async def bury(self, lease: Lease, failure: Failure) -> None:
        """Give the question up. Raises LeaseLostError."""
        self._forget(lease.key)
        await self._queue.bury(lease, failure)
        self._emit(DeadLettered(lease.key, failure, lease.attempt))

    def _forget(self, question_id: str) -> None:
        self.failed_at.pop(question_id, None)
        self._deadlines.pop(question_id, None)
        self._timeouts.pop(question_id, None)


def _no_answer(worker_id: str, seconds: float) -> SendTimeoutError:
    return SendTimeoutError(f"worker {worker_id!r}: no answer within {seconds:.4g} s (scheduler.attempt_timeout_s)")


def _overdue(failure: Failure, timeout_s: float | None) -> Failure:
    message = f"no answer within scheduler.question_timeout_s ({timeout_s:g} s); last: {failure.message}"
    return replace(failure, type=SendTimeoutError.__name__, message=message)


def _number(value: object) -> float | None:
    if type(value) is float:  # the usual case
        return value
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
