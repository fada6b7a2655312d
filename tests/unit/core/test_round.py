from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from streaming_queue.config import Config
from streaming_queue.core.round import Round, is_pipe, open_directory
from streaming_queue.errors import ConfigError, QueueError, StreamingQueueError
from streaming_queue.report import summary
from streaming_queue.telemetry.events import Event, IntakeFinished, Notice, RoundFinished, RoundStarted

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


def settings(tmp_path: Path, **sections: Any) -> Config:
    questions = tmp_path / "questions.jsonl"
    if not questions.exists():
        questions.write_text("".join(json.dumps({"id": f"q{n}", "q": f"question {n}"}) + "\n" for n in range(40)))
    coordinator = {"data_file": str(questions)} | sections.pop("coordinator", {})
    output = {"dir": str(tmp_path / "run")} | sections.pop("output", {})
    return Config.of({"core": {"type": "mock"}, "qa": {"coordinator": coordinator}, "output": output, **sections})


class Stage:
    """A round whose worker answers by `self.answer`."""

    def __init__(self, config: Config) -> None:
        self.events: list[Event] = []
        self.asked: list[str] = []
        self.config = config
        self.round: Round

    async def answer(self, question: str) -> str:
        return question.upper()

    async def run(self) -> Round:
        async def ask(worker_id: str, lease: Any, deadline: float | None) -> tuple[str, dict[str, Any]]:
            self.asked.append(lease.id)
            await asyncio.sleep(0)
            return await self.answer(lease.question.text), {}

        async def probe(worker_id: str) -> bool:
            return True

        directory = await asyncio.to_thread(open_directory, self.config)
        self.round = Round(
            self.config,
            directory,
            worker_ids=["W1"],
            ask=lambda run_id: ask,
            probe=probe,
            protocol_of=lambda worker_id: "test",
            emit=self.events.append,
        )
        async with asyncio.timeout(10):
            await self.round.run()
        return self.round

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def manifest(self) -> dict[str, Any]:
        return json.loads(self.round.directory.manifest_path.read_bytes())


async def test_a_round_leaves_its_record_its_rows_and_its_report(tmp_path: Path) -> None:
    stage = Stage(settings(tmp_path))
    round_ = await stage.run()
    assert (round_.state, round_.done, round_.failed, round_.total) == ("done", 40, 0, 40)
    rows = [json.loads(line) for line in round_.directory.results_jsonl.read_bytes().splitlines()]
    assert {row["question_id"]: row["answer"] for row in rows} == {f"q{n}": f"QUESTION {n}" for n in range(40)}
    assert stage.manifest()["summary"]["answered"] == 40
    assert stage.of(RoundStarted)[0].concurrency == 8
    assert stage.of(IntakeFinished)[0].questions == 40
    assert stage.of(RoundFinished)[0].state == "done"


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
    assert stage.of(RoundStarted)[0].resumed


async def test_a_source_that_breaks_midway_fails_the_round_but_loses_nothing_else(tmp_path: Path) -> None:
    import gzip

    lines = "".join(json.dumps({"id": f"q{n}", "q": f"question {n} {'x' * 500}"}) + "\n" for n in range(5000))
    broken = tmp_path / "broken.jsonl.gz"
    whole = gzip.compress(lines.encode(), compresslevel=0)
    broken.write_bytes(whole[: len(whole) // 2])
    stage = Stage(settings(tmp_path, coordinator={"data_file": str(broken)}))
    with pytest.raises(ConfigError, match=r"broken\.jsonl\.gz"):
        await stage.run()
    assert stage.round.done == stage.round.total > 1000
    assert stage.manifest()["state"] == "stopped"
    assert [event.level for event in stage.of(Notice)][-1] == "error"


async def test_a_broken_queue_fails_the_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(settings(tmp_path))

    async def broken(*arguments: Any, **options: Any) -> None:
        raise QueueError("the disk is gone")

    monkeypatch.setattr("streaming_queue.queue.sqlite.SQLiteQueue.commit", broken)
    with pytest.raises(QueueError, match="the disk is gone"):
        await stage.run()
    assert stage.round.state == stage.manifest()["state"] == "failed"


async def test_a_report_that_cannot_be_written_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*arguments: Any, **options: Any) -> None:
        raise StreamingQueueError("results.json cannot be written")

    monkeypatch.setattr("streaming_queue.core.round.write_results", refuse)
    stage = Stage(settings(tmp_path))
    with pytest.raises(StreamingQueueError, match="cannot be written"):
        await stage.run()
    assert stage.round.state == "failed"


async def test_a_drain_before_the_start_ends_at_once_and_keeps_the_run_resumable(tmp_path: Path) -> None:
    stage = Stage(settings(tmp_path))

    async def answer(question: str) -> str:
        stage.round.drain()
        return question

    stage.answer = answer
    round_ = await stage.run()
    assert round_.state == "stopped"
    assert 0 < round_.done < 40
    resumed = Stage(settings(tmp_path, output={"resume": True}))
    assert (await resumed.run()).done == 40
    assert not set(resumed.asked) & set(stage.asked)


def test_what_is_a_pipe(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "fifo")
    assert is_pipe("-")
    assert is_pipe(str(tmp_path / "fifo"))
    assert not is_pipe(None)
    assert not is_pipe(str(tmp_path))
    assert not is_pipe("nowhere")


async def test_a_round_is_running_until_its_report_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(settings(tmp_path))
    seen: list[str] = []

    async def write_results(*arguments: Any, **options: Any) -> Any:
        seen.append(stage.round.state)
        return await summary.write_results(*arguments, **options)

    monkeypatch.setattr("streaming_queue.core.round.write_results", write_results)
    await stage.run()
    assert seen == ["running"]
    assert stage.round.state == "done"
