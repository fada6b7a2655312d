from __future__ import annotations

import asyncio
import os

import pytest

from streaming_queue.control import open_control as module
from streaming_queue.control.client import ControlClient
from streaming_queue.control.open_control import drained, open_control
from streaming_queue.control.stopped import StoppedRun
from streaming_queue.errors import AuthError, ConfigError, ConnectError, SendTimeoutError
from streaming_queue.queue.sqlite import SQLiteQueue

CONTROL = {"address": "http://127.0.0.1:1", "token": "t"}


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    monkeypatch.setattr(module, "POLL_S", 0.01)


async def test_a_stopped_run_is_reached_by_its_files(stopped):
    async with open_control(stopped.path) as run:
        assert isinstance(run, StoppedRun)
        assert not run.live


async def test_a_directory_that_is_not_a_run_raises_config_error(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=r"run\.json|no such directory"):
            async with open_control(path):
                pass


async def test_a_process_that_takes_no_commands_is_named(queue, directory, soon):
    with pytest.raises(ConnectError, match=f"in use by process {os.getpid()}, which takes no commands now"):
        async with open_control(directory.path):
            pass


async def test_a_run_that_is_only_starting_is_waited_for(directory):
    """Its directory is there before its queue, that before its control."""

    async def find():
        async with open_control(directory.path) as run:
            return run

    finding = asyncio.create_task(find())
    await asyncio.sleep(0)
    queue = await SQLiteQueue.open(directory.queue_path)
    await queue.announce(CONTROL)
    assert isinstance(await finding, ControlClient)
    await queue.close()


async def test_a_run_that_never_got_to_its_queue_is_not_waited_for_for_ever(directory, soon):
    async with open_control(directory.path) as run:
        assert (await run.stats())["counts"]["total"] == 0


async def test_a_run_that_was_killed_is_not_waited_for(directory, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 1000)
    directory.queue_path.with_name("queue.db.lock").write_bytes(b'{"pid":1,"control":{}}\n')
    async with open_control(directory.path) as run:
        assert isinstance(run, StoppedRun)


async def test_another_users_run_is_not_ours_to_steer(directory, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "find_owner", refuse)
    with pytest.raises(AuthError, match="belongs to the user of the run"):
        async with open_control(directory.path):
            pass


async def test_a_drain_is_waited_for_within_a_bound(queue, directory, soon, monkeypatch):
    monkeypatch.setattr(module, "REPORT_S", -29.9)
    with pytest.raises(SendTimeoutError, match=f"process {os.getpid()} still works on it after 0.1 s"):
        await drained(directory.path)
    monkeypatch.setattr(module, "REPORT_S", 60.0)
    waiting = asyncio.create_task(drained(directory.path))
    await asyncio.sleep(0)
    await queue.close()
    await waiting
