from __future__ import annotations

import asyncio
import json
import os

import pytest
from unit.control.runs import ids, manifest

from streaming_queue.control.stopped import StoppedRun
from streaming_queue.errors import ConfigError, DiskFullError, QueueError
from streaming_queue.queue.sqlite import SQLiteQueue
from streaming_queue.report.run_directory import RunDirectory, unfinished


def rows(directory):
    return [json.loads(line)["question_id"] for line in directory.results_jsonl.read_bytes().splitlines()]


def report(directory):
    return json.loads(directory.results_json.read_bytes())


async def again(directory):
    return StoppedRun(await asyncio.to_thread(RunDirectory.open, directory.path))


async def test_it_returns_the_figures_of_the_run_and_changes_nothing(stopped):
    before = {file.name: file.read_bytes() for file in stopped.path.iterdir()}
    run = StoppedRun(stopped)
    reported = await run.stats()
    assert (reported["state"], reported["pid"]) == ("stopped", None)
    assert reported["counts"] == {"ready": 1, "leased": 0, "done": 1, "dead": 4, "total": 6}
    assert reported["reasons"] == {"AgentFailedError": 2, "ConnectError": 2}
    assert ids(await run.dead_letters(reason="ConnectError")) == ["q1", "q3"]
    assert (await run.dead_letter("q1"))["question"] == "question 1"
    with pytest.raises(ConfigError, match="'nobody' is not a dead letter"):
        await run.dead_letter("nobody")
    assert {file.name: file.read_bytes() for file in stopped.path.iterdir()} == before


async def test_a_stopped_run_refuses_commands_and_names_resume(stopped):
    for state, reason in (("stopped", f"`stq resume {stopped.path}` goes on"), ("done", "the run is done")):
        await asyncio.to_thread(stopped.update, state=state)
        run = StoppedRun(stopped)
        for verb in ("pause", "resume", "drain"):
            with pytest.raises(ConfigError, match=f"{reason}|nothing to {verb}") as caught:
                await getattr(run, verb)()
            assert reason in str(caught.value)
            assert f"nothing to {verb}" in str(caught.value)


async def test_a_replay_keeps_every_file_true(stopped):
    assert sorted(rows(stopped)) == ["q0", "q1", "q2", "q3", "q4"]
    run = StoppedRun(stopped)
    assert await run.replay(reason="ConnectError") == 2
    assert sorted(rows(stopped)) == ["q0", "q2", "q4"]
    assert [row["question_id"] for row in report(stopped)["results"]] == rows(stopped)
    run = await again(stopped)
    reported = await run.stats()
    assert (reported["state"], reported["counts"]["ready"], reported["counts"]["dead"]) == ("stopped", 3, 2)
    summary = manifest(stopped)["summary"]
    assert (summary["failed"], summary["open"], summary["seconds"], summary["skipped"]) == (2, 3, 2.0, 3)


async def test_what_was_done_is_open_again_after_a_replay_and_stays_done_after_a_purge(stopped):
    queue = await SQLiteQueue.open(stopped.queue_path)
    (lease,) = await queue.lease(1)
    await queue.commit(lease, (await queue.results())[0].result)
    await queue.close()
    await asyncio.to_thread(stopped.update, state="done")
    assert await StoppedRun(stopped).purge(ids=["q1"]) == 1
    assert manifest(stopped)["state"] == "done"
    assert sorted(rows(stopped)) == ["q0", "q2", "q3", "q4", "q5"]
    assert not await asyncio.to_thread(unfinished, stopped.path)
    assert await (await again(stopped)).replay(ids=["q2"]) == 1
    assert manifest(stopped)["state"] == "stopped"
    assert await asyncio.to_thread(unfinished, stopped.path)


async def test_a_run_that_was_killed_has_no_report_and_gets_none(queue, directory):
    await queue.close()
    run = StoppedRun(directory)
    assert (await run.stats())["state"] == "killed"
    assert await run.purge() == 4
    assert rows(directory) == ["q0"]
    assert not directory.results_json.exists()
    assert manifest(directory)["state"] == "stopped"


async def test_where_there_is_nothing_to_change_nothing_is(stopped, directory):
    run = StoppedRun(stopped)
    with pytest.raises(ConfigError, match="no failure is of type 'Typo'"):
        await run.purge(reason="Typo")
    assert await run.purge() == 4
    before = {file.name: file.read_bytes() for file in stopped.path.iterdir()}
    run = await again(stopped)
    assert await run.purge() == await run.replay() == 0
    assert {file.name: file.read_bytes() for file in stopped.path.iterdir()} == before


async def test_a_run_that_just_began_again_is_left_alone(stopped):
    queue = await SQLiteQueue.open(stopped.queue_path)
    with pytest.raises(QueueError, match="in use by process"):
        await StoppedRun(stopped).replay()
    await queue.close()
    assert manifest(stopped)["state"] == "stopped"


async def test_a_full_disk_raises_an_error_and_changes_nothing(stopped, monkeypatch):
    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskFullError, match=r"run\.json"):
        await StoppedRun(stopped).replay()
    assert (await (await again(stopped)).stats())["counts"]["dead"] == 4
