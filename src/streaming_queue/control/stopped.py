"""A run that nobody works on: its record, and changes to its dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

from streaming_queue.config.trust import UnmarkedError, effects, is_marked
from streaming_queue.control import record
from streaming_queue.control.base import PAGE, RunControl
from streaming_queue.errors import ConfigError, StreamingQueueError
from streaming_queue.queue.base import WorkQueue
from streaming_queue.queue.snapshot import Snapshot
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.projection import Projection
from streaming_queue.report.run_directory import RunDirectory
from streaming_queue.report.summary import write_results


class StoppedRun(RunControl):
    """The run in `directory`. To look at it changes nothing; to change it takes its lock, and keeps its files true."""

    live = False

    def __init__(self, directory: RunDirectory, *, trust: bool = False) -> None:
        """`trust` follows `qa.coordinator.result_file` of the run without this user's mark, too."""
        self._directory = directory
        self._trust = trust

    async def stats(self) -> dict[str, Any]:
        """See RunControl."""
        state = self._directory.manifest["state"]
        async with Snapshot.open(self._directory.queue_path) as queue:
            return await record.stats(queue, self._directory, state="killed" if state == "running" else state, pid=None)

    async def pause(self) -> dict[str, Any]:
        """Raise ConfigError: nothing goes on."""
        self._refuse("pause")

    async def resume(self) -> dict[str, Any]:
        """Raise ConfigError: it is not paused, it is stopped."""
        self._refuse("resume")

    async def drain(self) -> dict[str, Any]:
        """Raise ConfigError: nothing goes on."""
        self._refuse("drain")

    async def workers(self) -> list[dict[str, Any]]:
        """Raise ConfigError: nobody works."""
        self._refuse("list workers of")

    async def add_worker(
        self, address: str, *, protocol: str | None = None, worker_id: str | None = None
    ) -> list[dict[str, Any]]:
        """Raise ConfigError: there is nothing to join."""
        del address, protocol, worker_id
        self._refuse("join")

    async def remove_worker(self, worker_id: str, *, at_once: bool = False) -> list[dict[str, Any]]:
        """Raise ConfigError: there is nothing to leave."""
        del worker_id, at_once
        self._refuse("leave")

    async def dead_letters(self, *, reason: str | None = None, after: int = 0, limit: int = PAGE) -> dict[str, Any]:
        """See RunControl."""
        async with Snapshot.open(self._directory.queue_path) as queue:
            return await record.dead_letters(queue, reason=reason, after=after, limit=limit)

    async def dead_letter(self, question_id: str) -> dict[str, Any]:
        """See RunControl."""
        async with Snapshot.open(self._directory.queue_path) as queue:
            return await record.dead_letter(queue, self._directory, question_id)

    async def replay(self, *, ids: Sequence[str] | None = None, reason: str | None = None) -> int:
        """See RunControl."""
        return await self._change(lambda queue: queue.replay(ids=ids, failure_type=reason), reason)

    async def purge(self, *, ids: Sequence[str] | None = None, reason: str | None = None) -> int:
        """See RunControl."""
        return await self._change(lambda queue: queue.purge(ids=ids, failure_type=reason), reason)

    def _refuse(self, verb: str) -> NoReturn:
        path = self._directory.path
        if self._directory.manifest["state"] == "done":
            raise ConfigError(f"{path}: the run is done, there is nothing to {verb}")
        raise ConfigError(
            f"{path}: nobody works on the run, there is nothing to {verb}; `stq resume {path}` goes on with it"
        )

    async def _change(self, change: Callable[[WorkQueue], Awaitable[int]], reason: str | None) -> int:
        directory = self._directory
        await asyncio.to_thread(self._refuse_result_file)
        async with Snapshot.open(directory.queue_path) as snapshot:
            await record.check_reason(snapshot, reason)
            if not await snapshot.reasons():
                return 0
        queue = await SQLiteQueue.open(directory.queue_path)
        try:
            before = directory.manifest["state"]
            # Whoever is killed from here on leaves a run that can be resumed, which writes all files again.
            await self._note(state="stopped")
            count = await change(queue)
            async with Projection(queue, directory.results_jsonl):
                pass
            state = before if before != "running" and not (await queue.counts()).open else "stopped"
            await self._report(queue, state)
        finally:
            await queue.close()
        return count

    @property
    def _result_file(self) -> str | None:
        path: str | None = self._directory.manifest["config"]["qa"]["coordinator"]["result_file"]
        return path

    def _refuse_result_file(self) -> None:
        """Raise UnmarkedError where a change would write a file elsewhere that this user did not name."""
        manifest = self._directory.manifest
        found = effects(manifest.get("config") or {})
        writing = [effect for effect in found if effect.does == "writes"]
        if writing and not self._trust and not is_marked(found, manifest.get("mark")):
            raise UnmarkedError.over(writing, str(self._directory.manifest_path))

    async def _report(self, queue: WorkQueue, state: str) -> None:
        """Write what was written at the run's end anew; of a run that was killed there is no report yet."""
        directory, changes = self._directory, {"state": state}
        if earlier := directory.manifest.get("summary"):
            summary = await write_results(
                directory, queue, state=state, seconds=0.0, workers=earlier["workers"], result_file=self._result_file
            )
            changes["summary"] = earlier | summary
        await self._note(**changes)

    async def _note(self, **changes: Any) -> None:
        try:
            await asyncio.to_thread(self._directory.update, **changes)
        except OSError as error:
            path = self._directory.path
            raise StreamingQueueError(
                f"{self._directory.manifest_path}: cannot be written: {error.strerror}; "
                f"`stq top {path}` says what was changed, `stq resume {path}` writes all files again"
            ) from error
