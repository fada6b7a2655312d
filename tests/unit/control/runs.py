"""A run as it lies on disk, and what tests ask of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from streaming_queue.config import Config
from streaming_queue.messages import Failure, Question, Result
from streaming_queue.queue.lock import Owner, find_owner
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.projection import Projection
from streaming_queue.report.run_directory import RunDirectory
from streaming_queue.report.summary import write_results

HOSTILE = "it broke\x1b[31m \u202e\nand more"


def new_run(path: Path) -> RunDirectory:
    return RunDirectory.create(path, "a2a", {"config": Config().public()})


async def open_queue(directory: RunDirectory) -> SQLiteQueue:
    """Six questions: q0 is answered, q1 to q4 are dead letters, q5 waits."""
    queue = await SQLiteQueue.open(directory.queue_path)
    questions = [Question(f"question {n}", f"q{n}", f"r{n}") for n in range(6)]
    await queue.put(questions, bookmark={"complete": True, "questions": 6})
    answered, *failed = await queue.lease(5)
    await queue.commit(answered, Result("42", "Worker-1", "a2a", 0.1))
    for number, lease in enumerate(failed):
        type_ = "AgentFailedError" if number % 2 else "ConnectError"
        await queue.bury(lease, Failure(type_, HOSTILE, "Worker-1", "a2a", 0.1))
    return queue


async def stop(directory: RunDirectory, queue: SQLiteQueue) -> None:
    """End it like a run that was stopped."""
    async with Projection(queue, directory.results_jsonl):
        pass
    summary = await write_results(directory, queue, state="stopped", seconds=2.0, workers=["Worker-1"])
    await asyncio.to_thread(directory.update, state="stopped", summary=summary | {"skipped": 3})
    await queue.close()


def ids(page: dict[str, Any]) -> list[str]:
    return [letter["question_id"] for letter in page["dead_letters"]]


def manifest(directory: RunDirectory) -> dict[str, Any]:
    return json.loads(directory.manifest_path.read_bytes())


async def owner(directory: RunDirectory) -> Owner | None:
    return await asyncio.to_thread(find_owner, directory.queue_path)
