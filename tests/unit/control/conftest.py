from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from unit.control.runs import new_run, open_queue, stop

from streaming_queue.control.scheduler_control import SchedulerControl
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.run_directory import RunDirectory
from streaming_queue.telemetry.events import Event


class Steered:
    """A run and its scheduler that do as commanded, and no more."""

    def __init__(self, directory: RunDirectory, events: list[Event]) -> None:
        self.directory = directory
        self.emit = events.append
        self.paused = self.draining = False
        self.waiting = ""

    async def pause(self) -> None:
        self.paused = True

    def unpause(self) -> None:
        self.paused = False

    def drain(self) -> None:
        self.draining = True


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return new_run(tmp_path / "run")


@pytest_asyncio.fixture
async def queue(directory: RunDirectory) -> AsyncIterator[SQLiteQueue]:
    queue = await open_queue(directory)
    yield queue
    await queue.close()


@pytest.fixture
def steered(directory: RunDirectory, events: list[Event]) -> Steered:
    return Steered(directory, events)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def control(queue: SQLiteQueue, steered: Steered) -> SchedulerControl:
    return SchedulerControl(steered, steered, queue)


@pytest_asyncio.fixture
async def stopped(queue: SQLiteQueue, directory: RunDirectory) -> RunDirectory:
    await stop(directory, queue)
    return directory
