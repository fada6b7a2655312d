from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path

import pytest
from unit.comm.agents import soon

from streaming_queue.failstorm.load import Load
from streaming_queue.intake import open_source

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


async def read(path: Path) -> list[str | None]:
    async with await open_source(path) as source:
        return [question.id async for batch in source.batches() for question in batch.questions]


async def test_what_is_asked_is_what_a_run_reads(tmp_path: Path) -> None:
    async with Load(tmp_path / "pipe") as load:
        reading = asyncio.create_task(read(load.path))
        load.burst(2500)  # more than a pipe holds
        load.pace(400.0)
        await soon(lambda: len(load.due) >= 2550)
        await load.end()
        assert await reading == list(load.due)
    assert len(load.due) >= 2550
    assert not load.path.exists()


async def test_the_pace_is_even_and_does_not_wait_for_the_reader(tmp_path: Path) -> None:
    async with Load(tmp_path / "pipe") as load:
        began = time.monotonic()
        load.pace(200.0)
        await soon(lambda: len(load.due) >= 50)
        moments = list(load.due.values())
    assert len(moments) == pytest.approx((time.monotonic() - began) * 200, abs=30)
    gaps = {round(later - earlier, 6) for earlier, later in pairwise(moments)}
    assert gaps == {0.005}
