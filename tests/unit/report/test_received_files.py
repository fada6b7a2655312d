"""A directory whose files are links, or whose modes the umask decides."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path

import pytest

from streaming_queue.doctor.repair import repair
from streaming_queue.doctor.run_directory import run_directory
from streaming_queue.errors import ConfigError, QueueError, StreamingQueueError
from streaming_queue.messages import Question
from streaming_queue.queue.inspection import inspect
from streaming_queue.queue.lock import OwnerLock, find_owner
from streaming_queue.queue.snapshot import Snapshot
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.projection import Projection
from streaming_queue.report.run_directory import FILES, RunDirectory
from streaming_queue.report.summary import write_results


async def work(directory: RunDirectory) -> None:
    """Everything that a run writes."""
    queue = await SQLiteQueue.open(directory.queue_path)
    try:
        await queue.put([Question("q", "1")])
        async with Projection(queue, directory.results_jsonl):
            pass
        await write_results(directory, queue, state="stopped", seconds=1.0)
    finally:
        await queue.close()
    await asyncio.to_thread(directory.update, state="stopped")


@pytest.fixture
async def run(tmp_path):
    directory = await asyncio.to_thread(RunDirectory.create, tmp_path / "run", "a2a", {})
    await work(directory)
    return directory


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("dangling", [False, True])
async def test_a_link_in_place_of_a_file_is_refused_and_its_target_untouched(tmp_path, run, name, dangling):
    target = tmp_path / "target"
    if not dangling:
        target.write_text("precious")
    file = run.path / name
    file.unlink(missing_ok=True)
    file.symlink_to(target)
    uses = [
        lambda: RunDirectory.open(run.path),
        lambda: RunDirectory.create(run.path, "a2a", {}),
        lambda: repair(run.path, tmp_path / "new"),
    ]
    for use in uses:
        with pytest.raises(ConfigError, match=f"{name}: is a symbolic link"):
            await asyncio.to_thread(use)
    (finding,) = await asyncio.to_thread(run_directory, run.path)
    assert (finding.level, f"/{name}: " in finding.seen) == ("problem", True)
    assert dangling != target.exists()
    assert dangling or target.read_text() == "precious"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("queue.db")])
async def test_a_queue_by_itself_refuses_links_too(tmp_path, run, name):
    target = tmp_path / "target"
    target.write_text("precious")
    file = run.path / name
    file.unlink(missing_ok=True)
    file.symlink_to(target)
    path = run.queue_path
    with pytest.raises(QueueError, match="is a symbolic link"):
        await SQLiteQueue.open(path)
    if name.endswith(".lock"):
        for use in (lambda: find_owner(path), OwnerLock(path).acquire):
            with pytest.raises(QueueError, match="is a symbolic link"):
                await asyncio.to_thread(use)
    else:
        with pytest.raises(QueueError, match="is a symbolic link"):
            await asyncio.to_thread(inspect, path)
        with pytest.raises(QueueError, match="is a symbolic link"):
            async with Snapshot.open(path):
                pass
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode) & 0o600) == ("precious", 0o600)


async def test_a_link_that_comes_late_is_not_written_through(tmp_path, run):
    target = tmp_path / "target"
    target.write_text("precious")
    run.results_jsonl.unlink()
    run.results_jsonl.symlink_to(target)
    with pytest.raises(StreamingQueueError, match=r"results\.jsonl"):
        await work(run)
    assert target.read_text() == "precious"


async def test_a_pipe_is_no_file_either(run):
    run.manifest_path.unlink()
    os.mkfifo(run.manifest_path)
    with pytest.raises(ConfigError, match=r"run\.json: is not a regular file"):
        await asyncio.to_thread(RunDirectory.open, run.path)


async def test_a_directory_may_be_a_link(tmp_path, run):
    link = tmp_path / "link"
    link.symlink_to(run.path)
    await work(await asyncio.to_thread(RunDirectory.open, link))
    assert json.loads((run.path / "run.json").read_text())["state"] == "stopped"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600), (0o027, 0o640)])
async def test_files_are_by_the_umask_and_the_lock_is_private(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        directory = await asyncio.to_thread(RunDirectory.create, tmp_path / "run", "a2a", {})
        await work(directory)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in _files(directory.path)}
        queue = await SQLiteQueue.open(directory.queue_path)
        beside = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.path.glob("queue.db-*")}
        await queue.close()
    finally:
        os.umask(before)
    assert modes.pop("queue.db.lock") == 0o600
    assert set(modes) == {"run.json", "queue.db", "results.jsonl", "results.json"}
    assert set(modes.values()) == {mode}
    assert set(beside.values()) == {mode}


def _files(path: Path) -> list[Path]:
    return list(path.iterdir())
