from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from streaming_queue.messages import Failure, Result
from streaming_queue.queue.base import WorkQueue
from streaming_queue.queue.memory import MemoryQueue
from streaming_queue.queue.sqlite import SQLiteQueue


class Clock:
    """A monotonic clock that a test sets forward."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


MakeQueue = Callable[..., Awaitable[WorkQueue]]


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def make_queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeQueue]:
    made: list[WorkQueue] = []

    async def make(
        *, lease_s: float = 60.0, max_open: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> WorkQueue:
        if request.param == "memory":
            made.append(MemoryQueue(lease_s=lease_s, max_open=max_open, clock=clock))
        else:
            path = tmp_path / f"queue-{len(made)}.db"
            made.append(await SQLiteQueue.open(path, lease_s=lease_s, max_open=max_open, clock=clock))
        return made[-1]

    yield make
    for queue in made:
        await queue.close()


@pytest_asyncio.fixture
async def queue(make_queue: MakeQueue, clock: Clock) -> WorkQueue:
    """A queue of each engine in turn, whose leases last 60 s of `clock`."""
    return await make_queue(clock=clock)


@pytest.fixture
def result() -> Callable[..., Result]:
    def make(answer: str = "42", worker: str = "Worker-1") -> Result:
        return Result(
            answer,
            worker,
            "inproc",
            0.1 + 0.2,
            queue_ms=1.5,
            protocol_ms=0.7,
            llm_ms=299.3,
            ttft_ms=None,
            request_bytes=10,
            response_bytes=2,
            model="mock-1",
            mock=True,
            usage={"total_tokens": 3},
        )

    return make


@pytest.fixture
def failure() -> Callable[..., Failure]:
    def make(type_: str = "ConnectError", message: str = "refused") -> Failure:
        return Failure(type_, message, "Worker-1", "inproc", 0.25)

    return make
