"""A run without a process: its record, and changes to its dead letters."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

from streaming_queue.config.trust import UnmarkedError, effects, is_marked
from streaming_queue.control.record import Change, RecordControl
from streaming_queue.queue.base import Record, WorkQueue
from streaming_queue.queue.snapshot import Snapshot
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.projection import Projection
from streaming_queue.report.run_directory import RunDirectory
from streaming_queue.report.summary import write_results
from streaming_queue.telemetry.events import Purged, Replayed


class StoppedRun(RecordControl):
    """The run in `directory`. A read changes nothing; a change takes the run's lock, and updates the run's files."""

    live = False

    def __init__(self, directory: RunDirectory, *, trust: bool = False) -> None:
        """With `trust`, `qa.coordinator.result_file` counts even without this user's mark."""
        super().__init__(directory)
        self._trust = trust

    async def stats(self) -> dict[str, Any]:
        """See RunControl."""
        state = self._directory.manifest["state"]
        return await self._stats(state="killed" if state == "running" else state, pid=None)

    def _record(self) -> AbstractAsyncContextManager[Record]:
        return Snapshot.open(self._directory.queue_path)

    async def _change(self, change: Change, event: type[Replayed | Purged], reason: str | None) -> int:
        del event
        directory = self._directory
        await asyncio.to_thread(self._refuse_result_file)
        if not await self._any(reason):
            return 0
        queue = await SQLiteQueue.open(directory.queue_path)
        try:
            before = directory.manifest["state"]
            # A kill from here on leaves a run that can be resumed; the resume writes all files again.
            await self._note(state="stopped")
            count = await change(queue)
            async with Projection(queue, directory.results_jsonl):
                pass
            state = before if before != "running" and not (await queue.counts()).open else "stopped"
            await self._report(queue, state)
        finally:
            await queue.close()
        return count

    def _refuse_result_file(self) -> None:
        """Raise UnmarkedError if a change would write a file elsewhere that this user did not name."""
        manifest = self._directory.manifest
        found = effects(manifest.get("config") or {})
        writing = [effect for effect in found if effect.does == "writes"]
        if writing and not self._trust and not is_marked(found, manifest.get("mark")):
            raise UnmarkedError.over(writing, str(self._directory.manifest_path))

    async def _report(self, queue: WorkQueue, state: str) -> None:
        """Write the report of an ended run again; a killed run has no report yet."""
        directory, changes = self._directory, {"state": state}
        if earlier := directory.manifest.get("summary"):
            result_file = directory.manifest["config"]["qa"]["coordinator"]["result_file"]
            summary = await write_results(
                directory, queue, state=state, seconds=0.0, workers=earlier["workers"], result_file=result_file
            )
            changes["summary"] = earlier | summary
        await self._note(**changes)

    async def _note(self, **changes: Any) -> None:
        await asyncio.to_thread(self._directory.update, **changes)
