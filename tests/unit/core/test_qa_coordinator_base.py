from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import soon

from streaming_queue.comm.context import CallContext, calling
from streaming_queue.core import executors
from streaming_queue.core.executors import CoordinatorExecutor, WorkerExecutor
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.core.qa_coordinator_base import QACoordinatorBase
from streaming_queue.core.status_text import figures_of, status_text
from streaming_queue.errors import ConfigError, ConnectError
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend
from streaming_queue.telemetry.events import Answered, Event, RunFinished

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"id": f"q{n}", "q": f"question {n}"}) + "\n" for n in range(30)))
    return {
        "core": {"type": "mock"},
        "qa": {"coordinator": {"data_file": str(questions)}},
        "output": {"dir": str(tmp_path / "run")},
        "mock": {"latency_ms": 5},
    }


class Stage:
    """A coordinator and two workers in one network, over function calls."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.backend = InprocCommBackend()
        self.network = NetworkBase(self.backend)
        self.events: list[Event] = []

    async def host(self, coordinator: QACoordinatorBase, workers: int = 2) -> None:
        await self.spawn("Coordinator-1", CoordinatorExecutor(coordinator=coordinator))
        for number in range(workers):
            await self.spawn(f"Worker-{number + 1}", WorkerExecutor(self.settings))
        self.network.setup_star_topology("Coordinator-1")

    async def spawn(self, agent_id: str, executor: Any) -> None:
        handle = await self.backend.spawn_local_agent(agent_id, "", 0, executor)
        await self.network.register_agent(agent_id, handle.base_url)

    async def command(self, text: str, **metadata: Any) -> Any:
        with calling(CallContext(kind="command")):
            return await self.network.route_message("Runner", "Coordinator-1", {"text": text, "metadata": metadata})


@pytest.fixture
async def stage(settings: dict[str, Any]):
    stage = Stage(settings)
    yield stage
    await stage.network.close()


async def test_status_dispatch_status(stage: Stage, settings: dict[str, Any]) -> None:
    coordinator = QACoordinatorBase(settings, stage.events.append)
    await stage.host(coordinator)
    coordinator.set_network(stage.network, ["Worker-1", "Worker-2"], "spoken")
    before = await stage.command("status")
    assert before["text"] == "Coordinator-1: idle, 2 workers"
    assert before["metadata"] == {"state": "idle", "done": 0, "failed": 0, "total": 0, "round_id": None}
    done = await stage.command("  Dispatch ")
    assert done["text"].startswith("Dispatch completed: 30 of 30 questions answered, 0 failed")
    after = (await stage.command("status"))["metadata"]
    assert (after["state"], after["done"], after["failed"], after["total"]) == ("done", 30, 0, 30)
    assert after["round_id"]
    answered = [event for event in stage.events if isinstance(event, Answered)]
    assert {event.result.protocol for event in answered} == {"spoken"}
    assert {event.result.worker for event in answered} == {"Worker-1", "Worker-2"}
    assert isinstance(stage.events[-1], RunFinished)


@pytest.mark.parametrize("text", ["status", " Status\n", "", "  "])
async def test_no_text_asks_for_the_status_too(stage: Stage, settings: dict[str, Any], text: str) -> None:
    await stage.host(QACoordinatorBase(settings))
    assert "idle" in (await stage.command(text))["text"]


@pytest.mark.parametrize("text", ["hello", "dispatch now", "drain"])
async def test_a_coordinator_answers_no_questions(stage: Stage, settings: dict[str, Any], text: str) -> None:
    await stage.host(QACoordinatorBase(settings))
    error = (await stage.command(text))["error"]
    assert type(error) is ConfigError
    assert error.retryable is False
    assert "stq run -q" in str(error)


async def test_a_coordinator_never_told_its_workers_takes_them_from_the_network(stage: Stage, settings) -> None:
    coordinator = QACoordinatorBase(settings)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    await coordinator.dispatch_round()
    assert coordinator.worker_ids == ["Worker-1", "Worker-2"]


async def test_a_second_dispatch_attaches_to_the_round_under_way(stage: Stage, settings: dict[str, Any]) -> None:
    coordinator = QACoordinatorBase(settings, stage.events.append)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    first, second = await asyncio.gather(coordinator.dispatch_round(), coordinator.dispatch_round())
    assert first == second
    assert len([event for event in stage.events if isinstance(event, Answered)]) == 30


async def test_a_round_goes_on_when_the_caller_of_dispatch_leaves(stage: Stage, settings: dict[str, Any]) -> None:
    coordinator = QACoordinatorBase(settings)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    caller = asyncio.create_task(coordinator.dispatch_round())
    await soon(lambda: coordinator.figures()["done"] > 0)
    caller.cancel()
    await asyncio.wait({caller})
    assert "30 of 30" in await coordinator.dispatch_round()


async def test_send_to_worker_can_be_overridden(stage: Stage, settings: dict[str, Any]) -> None:
    class Mine(QACoordinatorBase):
        async def send_to_worker(self, worker_id: str, question: str) -> dict[str, Any]:
            if question == "question 7":
                raise RuntimeError("a bug of mine")
            return {"answer": f"{worker_id} on {question}"}

    settings["scheduler"] = {"max_attempts": 2, "retry_base_s": 0.001}
    coordinator = Mine(settings)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    assert "29 of 30 questions answered, 1 failed" in await coordinator.dispatch_round()
    lines = (coordinator._run.directory.path / "results.jsonl").read_bytes().splitlines()
    rows = {row["question_id"]: row for row in map(json.loads, lines)}
    assert rows["q3"]["answer"].endswith("on question 3")
    assert rows["q3"]["llm_ms"] is None
    assert rows["q3"]["protocol_ms"] is None
    assert "a bug of mine" in rows["q7"]["error"]["message"]


@pytest.mark.parametrize(
    "outcome",
    [{"answer": None, "raw": {}}, {"answer": "", "raw": {}}, {"answer": "sorry, an error", "raw": {"error": "boom"}}],
)
async def test_an_empty_answer_or_an_error_is_a_failure(stage: Stage, settings: dict[str, Any], outcome: Any) -> None:
    class Mute(QACoordinatorBase):
        async def send_to_worker(self, worker_id: str, question: str) -> dict[str, Any]:
            return outcome

    settings["scheduler"] = {"max_attempts": 1}
    Path(settings["qa"]["coordinator"]["data_file"]).write_text('{"q": "one"}\n{"q": "two"}\n')
    coordinator = Mute(settings)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    assert "0 of 2 questions answered, 2 failed" in await coordinator.dispatch_round()


async def test_a_failure_before_the_round_is_told_by_the_status_too(stage: Stage, settings: dict[str, Any]) -> None:
    settings["qa"]["coordinator"]["data_file"] = "nowhere.jsonl"
    coordinator = QACoordinatorBase(settings)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    reply = await stage.command("dispatch")
    assert isinstance(reply["error"], ConfigError)
    assert "nowhere.jsonl" in str(reply["error"])
    status = (await stage.command("status"))["metadata"]
    assert status["state"] in ("failed", "stopped")
    assert status["error"]["code"] == "config"


async def test_without_a_network_or_workers_dispatch_says_what_is_missing(stage: Stage, settings) -> None:
    with pytest.raises(ConfigError, match="set_network"):
        await QACoordinatorBase(settings).dispatch_round()
    coordinator = QACoordinatorBase(settings)
    await stage.host(coordinator, workers=0)
    coordinator.set_network(stage.network)
    with pytest.raises(ConfigError, match="no workers"):
        await coordinator.dispatch_round()


async def test_closing_the_network_ends_the_round_and_gives_the_questions_back(stage: Stage, settings) -> None:
    settings["mock"] = {"latency_ms": 60_000}
    coordinator = QACoordinatorBase(settings)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    caller = asyncio.create_task(coordinator.dispatch_round())
    await soon(lambda: coordinator.figures()["total"] == 30)
    async with asyncio.timeout(5):
        await stage.network.close()
    await asyncio.wait({caller})
    assert coordinator.figures()["state"] == "stopped"


@pytest.mark.parametrize("odd", [None, "text", {"answer": "yes", "raw": {"metadata": "odd"}}])
async def test_an_override_that_returns_another_shape_does_not_end_the_round(stage: Stage, settings, odd: Any) -> None:
    class Odd(QACoordinatorBase):
        async def send_to_worker(self, worker_id: str, question: str) -> dict[str, Any]:
            return odd if question == "question 7" else {"answer": "yes"}

    settings["scheduler"] = {"max_attempts": 1}
    coordinator = Odd(settings)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    assert "of 30 questions answered" in await coordinator.dispatch_round()
    assert coordinator.figures()["done"] >= 29


async def test_a_send_that_cancels_itself_costs_no_slot(stage: Stage, settings: dict[str, Any]) -> None:
    class Cancelled(QACoordinatorBase):
        cancelled = 0

        async def send_to_worker(self, worker_id: str, question: str) -> dict[str, Any]:
            if self.cancelled < 3:
                self.cancelled += 1
                raise asyncio.CancelledError
            return {"answer": "yes"}

    coordinator = Cancelled(settings)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    async with asyncio.timeout(5):
        assert "30 of 30" in await coordinator.dispatch_round()


async def test_a_probe_that_raises_is_a_worker_that_is_down(stage: Stage, settings: dict[str, Any]) -> None:
    class Lossy(QACoordinatorBase):
        lost = False

        async def send_to_worker(self, worker_id: str, question: str) -> dict[str, Any]:
            if not self.lost:
                self.lost = True
                raise ConnectError("reset")
            await asyncio.sleep(0.4)
            return {"answer": "yes"}

    async def health_check(agent_id: str) -> bool:
        raise OSError("refused")

    coordinator = Lossy(settings)
    await stage.host(coordinator)
    stage.backend.health_check = health_check  # type: ignore[method-assign]
    coordinator.set_network(stage.network)
    assert "30 of 30" in await coordinator.dispatch_round()


async def test_a_drain_before_the_round_is_made_is_not_lost(stage: Stage, settings: dict[str, Any]) -> None:
    coordinator = QACoordinatorBase(settings)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    coordinator.drain()
    assert "stopped" in await coordinator.dispatch_round()
    assert coordinator.figures()["state"] == "stopped"


async def test_a_detached_dispatch_answers_when_the_round_has_begun(stage: Stage, settings: dict[str, Any]) -> None:
    coordinator = QACoordinatorBase(settings | {"mock": {"latency_ms": 200}})
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    reply = await stage.command("dispatch", detach=True)
    assert reply["metadata"]["state"] == "running"
    ended = await stage.command("attach")
    assert ended["text"].startswith("Dispatch completed: 30 of 30")
    assert ended["metadata"]["summary"]["answered"] == 30
    assert (await stage.command("attach"))["metadata"]["done"] == 30


async def test_attaching_begins_no_round(stage: Stage, settings: dict[str, Any]) -> None:
    coordinator = QACoordinatorBase(settings)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    reply = await stage.command("attach")
    assert isinstance(reply["error"], ConfigError)
    assert "dispatch begins one" in str(reply["error"])
    assert coordinator.figures()["state"] == "idle"


async def test_a_detached_round_that_cannot_begin_is_told_by_the_figures(
    stage: Stage, settings: dict[str, Any]
) -> None:
    settings["qa"]["coordinator"]["data_file"] = "nowhere.jsonl"
    coordinator = QACoordinatorBase(settings)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    await stage.command("dispatch", detach=True)
    reply = await stage.command("attach")
    assert isinstance(reply["error"], ConfigError)
    assert coordinator.figures()["error"]["code"] == "config"


async def test_whoever_reads_a_stream_is_told_how_far_the_round_is(
    stage: Stage, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "PROGRESS_S", 0.02)
    coordinator = QACoordinatorBase(settings | {"mock": {"latency_ms": 50}})
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    with calling(CallContext(kind="command")):
        events = [
            event async for event in stage.network.stream_message("Runner", "Coordinator-1", {"text": "dispatch"})
        ]
    *statuses, end = events
    assert len(statuses) > 1
    assert {status["type"] for status in statuses} == {"agent_status"}
    assert statuses[-1]["metadata"]["total"] == 30
    assert "failed of 30" in statuses[-1]["data"]
    assert end["metadata"]["done"] == 30


async def test_a_follower_that_leaves_its_stream_leaves_the_round_alone(stage: Stage, settings: dict[str, Any]) -> None:
    coordinator = QACoordinatorBase(settings | {"mock": {"latency_ms": 100}})
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    await stage.command("dispatch", detach=True)

    async def follow() -> None:
        with calling(CallContext(kind="command")):
            async for _ in stage.network.stream_message("Runner", "Coordinator-1", {"text": "attach"}):
                pass

    following = asyncio.create_task(follow())
    await soon(lambda: coordinator.figures()["round_id"] is not None)
    following.cancel()
    await asyncio.wait({following})
    assert (await stage.command("attach"))["metadata"]["done"] == 30


async def test_words_that_are_not_tagged_follow_the_guide(stage: Stage, settings: dict[str, Any]) -> None:
    coordinator = QACoordinatorBase(settings)
    await stage.host(coordinator)
    coordinator.set_network(stage.network)
    reply = await stage.network.route_message("Runner", "Coordinator-1", {"text": "attach"})
    assert type(reply["error"]) is ConfigError
    reply = await stage.network.route_message(
        "Runner", "Coordinator-1", {"text": "dispatch", "metadata": {"detach": True}}
    )
    assert reply["text"].startswith("Dispatch completed")


NONE = {"done": 0, "failed": 0, "total": 0, "round_id": None}
ROUND = {"done": 7, "failed": 2, "total": 9, "round_id": "20261125-011959-f317692d", "directory": "runs/of (mine), 1"}


@pytest.mark.parametrize("figures", [*({"state": state} | NONE for state in ("idle", "running", "failed")),
                                     *({"state": state} | ROUND for state in ("running", "done", "stopped", "failed"))])  # fmt: skip
@pytest.mark.parametrize("coordinator_id", ["Coordinator-1", "a: b"])
def test_a_reader_gets_the_figures_back(figures: dict[str, Any], coordinator_id: str) -> None:
    assert figures_of(status_text(coordinator_id, figures, 2)) == figures


def test_a_paused_round_is_one_that_goes_on() -> None:
    line = status_text("C", {"state": "running"} | ROUND, 2, paused=True)
    assert "paused" in line
    assert figures_of(line) == {"state": "running"} | ROUND


@pytest.mark.parametrize("text", ["", "all is well", "round 1 done", "C: idle", "C: round 1 done, 2 workers"])
def test_any_other_text_tells_none(text: str) -> None:
    assert figures_of(text) is None
