"""Feeds the source into the queue: each question once, within the window."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from streaming_queue.config import Config
from streaming_queue.errors import ConfigError
from streaming_queue.intake import Remark, Source, is_pipe, open_source
from streaming_queue.messages import Question
from streaming_queue.queue.base import WorkQueue, candidate_ids
from streaming_queue.telemetry.events import EventListener, IntakeFinished, Notice, Queued

BATCH = 500
_NOTHING_READ = {
    "lines": 0,
    "questions": 0,
    "skipped": 0,
    "duplicates": 0,
    "complete": False,
    "limited": False,
    "again": False,  # the source was changed, so its next lines may be known
}


class Feed:
    """Copies a source into the queue; one transaction writes each batch and the position in the source.

    While the window (`qa.coordinator.window`) is full of open questions, or no worker can be reached, the feed does not
    read, and the writer of a pipe waits, too. `done` is set when the feed has read all its questions. If the source
    could not be read to its end, `error` then is the reason; the run still answers the questions read before.
    """

    def __init__(self, config: Config, queue: WorkQueue, emit: EventListener) -> None:
        self.done = asyncio.Event()
        self.error: ConfigError | None = None
        self._coordinator = config.qa.coordinator
        self._strict = config.output.strict
        self._queue = queue
        self._emit = emit
        self._has_room = asyncio.Event()
        self.is_wanted: Callable[[], bool] = lambda: True
        """Whether a worker can take questions; while none can, the feed does not read on."""

    def make_room(self) -> None:
        """Look again whether to read on: a question has ended, or a worker is back."""
        self._has_room.set()

    async def run(self) -> None:
        """Read from the queue's bookmark on. Raises QueueError."""
        mark = _NOTHING_READ | (await self._queue.bookmark() or {})
        limit = self._coordinator.question_limit
        try:
            if await self._may_have_more(mark):
                mark |= {"complete": False, "limited": False}
                if source := await self._open(mark):
                    async with source:
                        self._emit(Notice("info", source.describe()))
                        await self._copy(source, mark)
                limited = limit is not None and mark["questions"] >= limit
                await self._queue.put([], bookmark=mark | {"complete": True, "limited": limited, "again": False})
        except ConfigError as error:
            self.error = error
            self._emit(Notice("error", str(error)))
        self.done.set()
        total = (await self._queue.counts()).total
        self._emit(IntakeFinished(total, mark["skipped"], mark["duplicates"]))

    async def _may_have_more(self, mark: Mapping[str, Any]) -> bool:
        if not mark["complete"]:
            return True
        limit, path = self._coordinator.question_limit, self._coordinator.data_file
        if limit is not None and limit <= mark["questions"]:
            return False
        if mark["limited"]:
            return True
        if not await self._queue.source_checks():  # a pipe, or a run of an earlier release
            return False
        return path is None or await asyncio.to_thread(Path(path).is_file)

    async def _copy(self, source: Source, mark: dict[str, Any]) -> None:
        window = self._coordinator.window
        size = BATCH if window is None else max(1, min(BATCH, window // 2))
        await self._room(size)
        async for batch in source.batches(size):
            mark["lines"] = batch.lines
            mark["questions"] += len(batch.questions)
            mark["skipped"] += len(batch.problems)
            for problem in batch.problems:
                self._emit(Notice("warning", f"{problem}: skipped"))
            questions = [_named(question) for question in batch.questions] if mark["again"] else batch.questions
            report = await self._queue.put(questions, bookmark=mark, checks=batch.checks)
            mark["duplicates"] += report.known
            for wished, given in report.renamed:
                self._emit(Notice("warning", f"id {wished!r} already has another text: stored as {given!r}"))
            self._emit(Queued(report.added, report.known, (await self._queue.counts()).total))
            self._remark(source.remarks())
            await self._room(size)
        self._remark(source.remarks(final=True))

    def _remark(self, remarks: list[Remark]) -> None:
        for remark in remarks:
            self._emit(Notice(remark.level, remark.text))

    async def _room(self, size: int) -> None:
        """Wait until `size` more questions fit into the window, and a worker can take them."""
        window = self._coordinator.window
        while not self.is_wanted() or (window is not None and (await self._queue.counts()).open + size > window):
            self._has_room.clear()
            await self._has_room.wait()

    async def _open(self, mark: Mapping[str, Any]) -> Source | None:
        path = self._coordinator.data_file
        limit = self._coordinator.question_limit
        left = None if limit is None else limit - mark["questions"]
        if left is not None and left <= 0:
            return None
        if mark["lines"] and await asyncio.to_thread(is_pipe, path):
            kept = f"{mark['questions']} questions were read from the pipe and are kept"
            self._emit(Notice("warning", f"{kept}; unread questions are lost"))
            return None
        return await open_source(path, strict=self._strict, limit=left, skip=mark["lines"])


def _named(question: Question) -> Question:
    """`question` with an id, so that it is known if it was read before."""
    return question if question.id is not None else replace(question, id=next(iter(candidate_ids(question))))
