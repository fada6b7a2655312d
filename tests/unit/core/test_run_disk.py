"""A run on a disk that is full, that fails, or that refuses: the class of its end, its code, and what can be resumed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import until
from unit.core.test_run import Stage, settings
from unit.queue.writer import in_writer

from streaming_queue.core import run as run_module
from streaming_queue.errors import ConfigError, DiskFullError, QueueError, QueueStalledError, StreamingQueueError
from streaming_queue.exit_codes import ExitCode, exit_code
from streaming_queue.queue import full_disk, lock, writer_watch
from streaming_queue.report import projection, rows_file, run_directory
from streaming_queue.telemetry.events import Notice

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

FULL = (errno.ENOSPC, errno.EDQUOT)
ERRNOS = [*FULL, errno.EIO, errno.EACCES, errno.EROFS]


@pytest.fixture(autouse=True)
def quick_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_disk, "RETRY_S", 0.02)
    monkeypatch.setattr(projection, "_RETRY_S", 0.02)


async def pages(stage: Stage, most: int) -> None:
    """Bound the database: SQLite then answers as it does on a full disk."""
    queue = stage.current._queue
    assert queue is not None
    await in_writer(queue, lambda store: store.db.execute(f"PRAGMA max_page_count={most}").fetchone())


class OnSmallDisk(Stage):
    """The answers are large, and the disk gets full after the first of them."""

    small = True

    async def answer(self, question: str) -> str:
        if self.small:
            self.small = False
            await pages(self, 60)
        return question.upper() * 2000


@pytest.mark.parametrize("drained", [False, True])
async def test_a_full_disk_pauses_the_run_until_there_is_space(tmp_path: Path, drained: bool) -> None:
    stage = OnSmallDisk(settings(tmp_path))
    running = asyncio.create_task(stage.run())
    await until(lambda: any(notice.level == "warning" for notice in stage.of(Notice)))
    assert stage.current.waiting
    await asyncio.sleep(0.1)
    assert len(stage.asked) < 40, "a full disk takes no question"
    assert not running.done()
    if drained:
        stage.current.drain()
    await pages(stage, 1_000_000)
    await running
    assert not stage.current.waiting
    assert [notice.level for notice in stage.of(Notice)][-2:] == ["warning", "info"]
    assert stage.current.done == (len(stage.asked) if drained else 40)
    assert stage.manifest()["state"] == ("stopped" if drained else "done")


async def test_after_its_bound_the_run_stops_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "FULL_S", 0.2)
    stage = OnSmallDisk(settings(tmp_path))
    with pytest.raises(DiskFullError) as caught:
        await stage.run()
    assert exit_code(caught.value) is ExitCode.STOPPED
    assert stage.current.state == stage.manifest()["state"] == "stopped"
    assert (await Stage(settings(tmp_path, output={"resume": True})).run()).done == 40


def refusing(number: int, path: Path | None = None) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number), None if path is None else str(path))

    return refuse


def ends(number: int, *, otherwise: type[StreamingQueueError]) -> tuple[type[StreamingQueueError], ExitCode]:
    """The class and the code that this errno has at every file; `otherwise` is the class of a refusal."""
    if number in FULL:
        return DiskFullError, ExitCode.STOPPED
    if number == errno.EIO:
        return QueueError, ExitCode.INTERNAL
    return otherwise, exit_code(otherwise())


def at_the_begin(number: int, patch: pytest.MonkeyPatch, tmp_path: Path) -> type[StreamingQueueError]:
    patch.setattr(run_directory, "replacing", refusing(number, tmp_path / "run" / "run.json"))
    return ConfigError


def at_run_json(number: int, patch: pytest.MonkeyPatch, tmp_path: Path) -> type[StreamingQueueError]:
    def update(self: run_directory.RunDirectory, manifest: dict[str, Any]) -> None:
        if self.queue_path.exists():
            refusing(number, self.manifest_path)()
        replace(self, manifest)

    replace = run_directory.RunDirectory._replace
    patch.setattr(run_directory.RunDirectory, "_replace", update)
    return StreamingQueueError


def at_results(number: int, patch: pytest.MonkeyPatch, tmp_path: Path) -> type[StreamingQueueError]:
    patch.setattr(rows_file.os, "write", refusing(number))
    return StreamingQueueError


def at_report(number: int, patch: pytest.MonkeyPatch, tmp_path: Path) -> type[StreamingQueueError]:
    patch.setattr("streaming_queue.report.summary.replacing", refusing(number, tmp_path / "run" / "results.json"))
    return StreamingQueueError


def at_lock(number: int, patch: pytest.MonkeyPatch, tmp_path: Path) -> type[StreamingQueueError]:
    patch.setattr(lock.fcntl, "flock", refusing(number))
    return QueueError


def at_database(number: int, patch: pytest.MonkeyPatch, tmp_path: Path) -> type[StreamingQueueError]:
    def open_(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if Path(path).name == "queue.db":
            refusing(number, path)()
        return real(path, flags, mode, **more)

    real = os.open
    patch.setattr("streaming_queue.queue.sqlite_schema.os.open", open_)
    return QueueError


@pytest.mark.parametrize("number", ERRNOS, ids=errno.errorcode.get)
@pytest.mark.parametrize("place", [at_the_begin, at_run_json, at_results, at_report, at_lock, at_database])
async def test_each_errno_at_each_file_has_its_class_and_its_code(
    tmp_path: Path, place: Callable[..., type[StreamingQueueError]], number: int
) -> None:
    stage = Stage(settings(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        cls, code = ends(number, otherwise=place(number, patch, tmp_path))
        with pytest.raises(StreamingQueueError) as caught:
            await stage.run()
    assert (type(caught.value), exit_code(caught.value)) == (cls, code)
    with contextlib.suppress(FileNotFoundError):
        assert not await asyncio.to_thread((tmp_path / "run" / ".run.json.tmp").exists)
    known = await asyncio.to_thread((tmp_path / "run" / "queue.db").exists)
    assert (await Stage(settings(tmp_path, output={"resume": known})).run()).done == 40


@pytest.mark.parametrize("number", FULL, ids=errno.errorcode.get)
async def test_rows_that_found_no_space_are_written_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    left = 3

    def write(descriptor: int, data: Any) -> int:
        nonlocal left
        if left:
            left -= 1
            refusing(number)()
        return real(descriptor, data)

    real = os.write
    monkeypatch.setattr(rows_file.os, "write", write)
    stage = Stage(settings(tmp_path))

    async def answer(question: str) -> str:
        if question.endswith("39"):  # the rows of the others find no space meanwhile
            await until(lambda: not left)
        return question

    stage.answer = answer
    round_ = await stage.run()
    assert round_.state == "done"
    assert len(round_.directory.results_jsonl.read_bytes().splitlines()) == 40


async def test_an_error_that_is_not_ours_ends_the_run_at_once_and_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(settings(tmp_path))

    async def never(question: str) -> str:
        return await asyncio.Event().wait() or question if question.endswith("30") else question

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    stage.answer = never
    monkeypatch.setattr(rows_file.RowsFile, "append", broken)
    with pytest.raises(StreamingQueueError) as caught:
        await stage.run()
    assert type(caught.value) is StreamingQueueError
    assert stage.manifest()["state"] == "failed"
    assert stage.manifest()["error"]["code"] == "internal"
    assert any(record.exc_info for record in caplog.records)


async def test_a_disk_that_hangs_stops_the_run_which_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_watch, "LOOK_S", 0.005)
    stage = Stage(settings(tmp_path))
    gate = threading.Event()
    hanging: list[asyncio.Task[object]] = []

    async def answer(question: str) -> str:
        queue = stage.current._queue
        if not hanging and queue is not None:
            hanging.append(asyncio.create_task(in_writer(queue, lambda _: gate.wait(60))))
        return question

    stage.answer = answer
    with pytest.raises(QueueStalledError) as caught:
        await stage.run()
    assert exit_code(caught.value) is ExitCode.STOPPED
    assert isinstance(hanging[0].exception(), QueueStalledError)
    assert stage.manifest()["state"] == "stopped"
    assert stage.manifest()["error"]["code"] == "queue_stalled"
    gate.set()
    lock_file = tmp_path / "run" / "queue.db"
    await until(lambda: asyncio.to_thread(lambda: lock.find_owner(lock_file) is None))
    assert (await Stage(settings(tmp_path, output={"resume": True})).run()).done == 40
