from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import until

from streaming_queue.comm import registry
from streaming_queue.config import Config, resume_config
from streaming_queue.control.base import RunControl
from streaming_queue.control.open_control import open_control
from streaming_queue.control.scheduler_control import steer
from streaming_queue.core.membership import Membership
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.core.run import Run
from streaming_queue.core.run_start import open_directory, resolve_provider
from streaming_queue.errors import ConfigError, ProtocolError, QueueError, StreamingQueueError
from streaming_queue.report import summary
from streaming_queue.telemetry.events import (
    Continued,
    Event,
    IntakeFinished,
    Notice,
    Paused,
    Purged,
    Replayed,
    RunFinished,
    RunStarted,
)

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


def settings(tmp_path: Path, **sections: Any) -> Config:
    questions = tmp_path / "questions.jsonl"
    if not questions.exists():
        questions.write_text("".join(json.dumps({"id": f"q{n}", "q": f"question {n}"}) + "\n" for n in range(40)))
    coordinator = {"data_file": str(questions)} | sections.pop("coordinator", {})
    output = {"dir": str(tmp_path / "run")} | sections.pop("output", {})
    return Config.of({"core": {"type": "mock"}, "qa": {"coordinator": coordinator}, "output": output, **sections})


class Stage:
    """A run whose worker answers by `self.answer`."""

    def __init__(self, config: Config) -> None:
        self.events: list[Event] = []
        self.asked: list[str] = []
        self.config = config
        self.current: Run

    async def answer(self, question: str) -> str:
        return question.upper()

    async def run(self) -> Run:
        async def ask(worker_id: str, lease: Any, deadline: float | None) -> tuple[str, dict[str, Any]]:
            self.asked.append(lease.id)
            await asyncio.sleep(0)
            return await self.answer(lease.question.text), {}

        directory = await asyncio.to_thread(open_directory, self.config)
        self.current = Run(
            self.config,
            directory,
            membership=Membership(NetworkBase(registry.create("inproc")), "Coordinator-1", ["W1"]),
            ask=lambda run_id: ask,
            emit=self.events.append,
            steering=steer,
        )
        async with asyncio.timeout(10):
            await self.current.run()
        return self.current

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def manifest(self) -> dict[str, Any]:
        return json.loads(self.current.directory.manifest_path.read_bytes())


async def test_a_round_leaves_its_record_its_rows_and_its_report(tmp_path: Path) -> None:
    stage = Stage(settings(tmp_path))
    round_ = await stage.run()
    assert (round_.state, round_.done, round_.failed, round_.total) == ("done", 40, 0, 40)
    rows = [json.loads(line) for line in round_.directory.results_jsonl.read_bytes().splitlines()]
    assert {row["question_id"]: row["answer"] for row in rows} == {f"q{n}": f"QUESTION {n}" for n in range(40)}
    assert stage.manifest()["summary"]["answered"] == 40
    assert stage.of(RunStarted)[0].concurrency == 8
    assert stage.of(IntakeFinished)[0].questions == 40
    assert stage.of(RunFinished)[0].state == "done"


async def test_run_json_stands_before_the_queue_and_keeps_what_a_resume_needs(tmp_path: Path) -> None:
    config = settings(tmp_path, coordinator={"result_file": str(tmp_path / "all.json"), "limit": 3})
    directory = await asyncio.to_thread(open_directory, config)
    assert directory.manifest_path.exists()
    assert not directory.queue_path.exists()
    kept = directory.manifest["config"]
    assert Path(kept["qa"]["coordinator"]["data_file"]).is_absolute()
    assert kept["core"]["type"] == "mock"
    assert directory.manifest["provider"]["mock"] is True


async def test_a_limit_holds_across_a_resume(tmp_path: Path) -> None:
    config = settings(tmp_path, coordinator={"limit": 25})
    assert (await Stage(config).run()).total == 25
    again = settings(tmp_path, coordinator={"limit": 25}, output={"resume": True})
    stage = Stage(again)
    assert (await stage.run()).total == 25
    assert stage.asked == []
    assert stage.of(RunStarted)[0].resumed


async def test_a_new_limit_on_resume_reads_on_where_the_old_one_stopped(tmp_path: Path) -> None:
    assert (await Stage(settings(tmp_path, coordinator={"limit": 10})).run()).total == 10
    for limit, asked in ((25, range(10, 25)), (5, ()), (None, range(25, 40)), (100, ())):
        stage = Stage(settings(tmp_path, coordinator={"limit": limit}, output={"resume": True}))
        await stage.run()
        assert stage.asked == [f"q{number}" for number in asked]
        assert stage.manifest()["state"] == "done"
        assert stage.manifest()["config"]["qa"]["coordinator"]["limit"] == limit


async def test_a_source_that_was_read_to_its_end_is_not_needed_again(tmp_path: Path) -> None:
    await Stage(settings(tmp_path, coordinator={"limit": 50})).run()
    (tmp_path / "questions.jsonl").unlink()
    (tmp_path / "questions.jsonl").mkdir()
    await Stage(settings(tmp_path, coordinator={"limit": 100}, output={"resume": True})).run()


async def test_the_settings_of_a_resume_are_kept_for_the_next(tmp_path: Path) -> None:
    stage = Stage(settings(tmp_path))
    await stage.run()
    before = stage.manifest()
    resumed = Stage(settings(tmp_path, output={"resume": True}, scheduler={"max_attempts": 9}))
    await resumed.run()
    after = resumed.manifest()
    assert after["config"]["scheduler"]["max_attempts"] == 9
    assert after["config"]["output"] == before["config"]["output"]
    assert (after["run_id"], after["provider"], after["created"]) == tuple(
        before[key] for key in ("run_id", "provider", "created")
    )


async def test_a_round_is_steered_through_its_directory_while_it_lasts(tmp_path: Path) -> None:
    stage = Stage(settings(tmp_path))
    failing = {"question 3", "question 4"}
    paused, replayed = asyncio.Event(), asyncio.Event()
    seen: list[dict[str, Any]] = []

    async def answer(question: str) -> str:
        if question == "question 6":
            async with open_control(tmp_path / "run") as run:
                seen.append(await run.pause())
            paused.set()
        if question in failing:
            raise ProtocolError("garbage", retryable=False)
        if question == "question 39":
            await replayed.wait()
        return question

    async def comes(run: RunControl, state: str, count: int) -> dict[str, Any]:
        async def is_so() -> bool:
            return (await run.stats())["counts"][state] == count

        await until(is_so)
        return await run.stats()

    async def steer() -> None:
        await paused.wait()
        async with open_control(tmp_path / "run") as run:
            seen.append(await comes(run, "leased", 0))
            await run.resume()
            await comes(run, "dead", 2)
            failing.clear()
            assert await run.purge(ids=["q3"]) == 1
            assert await run.replay() == 1
        replayed.set()

    stage.answer = answer
    steering = asyncio.create_task(steer())
    round_ = await stage.run()
    await steering
    assert [told["state"] for told in seen] == ["paused", "paused"]
    assert seen[1]["counts"]["done"] < 40
    assert (round_.state, round_.done, round_.failed, round_.total) == ("done", 39, 0, 39)
    rows = [json.loads(line)["question_id"] for line in round_.directory.results_jsonl.read_bytes().splitlines()]
    assert sorted(rows) == sorted(f"q{number}" for number in range(40) if number != 3)
    assert [type(event) for event in stage.events if isinstance(event, Paused | Continued | Purged | Replayed)] == [
        Paused,
        Continued,
        Purged,
        Replayed,
    ]
    assert round_.directory.queue_path.with_name("queue.db.lock").read_bytes() == b""


async def test_a_drain_through_the_directory_is_a_stop(tmp_path: Path) -> None:
    stage = Stage(settings(tmp_path))

    async def answer(question: str) -> str:
        if question == "question 7":
            async with open_control(tmp_path / "run") as run:
                assert (await run.drain())["state"] == "draining"
        return question

    stage.answer = answer
    round_ = await stage.run()
    assert round_.state == stage.manifest()["state"] == "stopped"
    assert 0 < round_.done < 40


async def test_a_source_that_breaks_midway_fails_the_round_but_loses_nothing_else(tmp_path: Path) -> None:
    import gzip

    lines = "".join(json.dumps({"id": f"q{n}", "q": f"question {n} {'x' * 500}"}) + "\n" for n in range(5000))
    broken = tmp_path / "broken.jsonl.gz"
    whole = gzip.compress(lines.encode(), compresslevel=0)
    broken.write_bytes(whole[: len(whole) // 2])
    stage = Stage(settings(tmp_path, coordinator={"data_file": str(broken)}))
    with pytest.raises(ConfigError, match=r"broken\.jsonl\.gz"):
        await stage.run()
    assert stage.current.done == stage.current.total > 1000
    assert stage.manifest()["state"] == "stopped"
    assert [event.level for event in stage.of(Notice)][-1] == "error"


async def test_a_broken_queue_fails_the_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(settings(tmp_path))

    async def broken(*arguments: Any, **options: Any) -> None:
        raise QueueError("the disk is gone")

    monkeypatch.setattr("streaming_queue.queue.sqlite.SQLiteQueue.commit", broken)
    with pytest.raises(QueueError, match="the disk is gone"):
        await stage.run()
    assert stage.current.state == stage.manifest()["state"] == "failed"


async def test_a_report_that_cannot_be_written_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*arguments: Any, **options: Any) -> None:
        raise StreamingQueueError("results.json cannot be written")

    monkeypatch.setattr("streaming_queue.core.run.write_results", refuse)
    stage = Stage(settings(tmp_path))
    with pytest.raises(StreamingQueueError, match="cannot be written"):
        await stage.run()
    assert stage.current.state == "failed"


async def test_a_drain_before_the_start_ends_at_once_and_keeps_the_run_resumable(tmp_path: Path) -> None:
    stage = Stage(settings(tmp_path))

    async def answer(question: str) -> str:
        stage.current.drain()
        return question

    stage.answer = answer
    round_ = await stage.run()
    assert round_.state == "stopped"
    assert 0 < round_.done < 40
    resumed = Stage(settings(tmp_path, output={"resume": True}))
    assert (await resumed.run()).done == 40
    assert not set(resumed.asked) & set(stage.asked)


async def test_a_round_is_running_until_its_report_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(settings(tmp_path))
    seen: list[str] = []

    async def write_results(*arguments: Any, **options: Any) -> Any:
        seen.append(stage.current.state)
        return await summary.write_results(*arguments, **options)

    monkeypatch.setattr("streaming_queue.core.run.write_results", write_results)
    await stage.run()
    assert seen == ["running"]
    assert stage.current.state == "done"


def settled(settings):
    config = Config.of(settings)
    written = config.public()
    return resolve_provider(config, written), written


def test_the_one_that_answers_is_named_and_chosen_again():
    provider, written = settled({})
    assert (provider["name"], provider["mock"]) == ("mock", True)
    assert written["core"]["type"] == "mock"
    assert settled({"workers": [{}, {"protocol": "http"}]})[0] == provider


def test_whoever_answers_elsewhere_is_not_known_here():
    assert settled({"qa": {"worker": {"endpoints": ["http://a"]}}})[0] is None
    provider, written = settled({"workers": [{"endpoints": ["http://a"], "core": {"name": "m"}}, {}]})
    assert provider is None
    assert written["core"]["type"] == "mock"
    assert written["workers"][0]["core"] == {"name": "m"}


def test_several_are_chosen_again_each_by_its_group():
    provider, written = settled({"workers": [{}, {"core": {"port": 8000, "name": "m"}}]})
    assert provider is None
    assert written["core"]["type"] == "mock"
    again = resume_config(written, "run", environ={"OPENAI_API_KEY": "k"})
    first, second = again.roster.values()
    assert (first.core.type, second.core.type, second.core.openai_api_key) == ("mock", "openai", None)
