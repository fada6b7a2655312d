"""Events and streams for tests of what listens."""

from __future__ import annotations

import io

from streaming_queue.messages import Counts, Result
from streaming_queue.telemetry.events import Answered, RunStarted


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def started(*, resumed: bool = False, counts: Counts | None = None, workers: int = 2) -> RunStarted:
    names = tuple(f"Worker-{number}" for number in range(1, workers + 1))
    return RunStarted("r1", names, concurrency=8, resumed=resumed, counts=counts or Counts())


def answered(question_id: str, worker: str = "Worker-1", **figures) -> Answered:
    figures = {"response_time_s": 0.25, "protocol_ms": 2.0, "llm_ms": 248.0, "mock": True} | figures
    return Answered(question_id, Result("42", worker, "a2a", **figures), 1)
