from __future__ import annotations

import asyncio
import io
import signal
from pathlib import Path
from typing import Any

import pytest

from streaming_queue.config import load_config
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.errors import AuthError, ConfigError, ConnectError, QuotaError
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend
from streaming_queue.runner.runner_base import RunnerBase
from streaming_queue.telemetry.console import Output


def config(tmp_path: Path, **flags: Any) -> Any:
    defaults = {
        "protocol": "inproc",
        "qa.coordinator.limit": 5,
        "mock.latency_ms": 1,
        "output.dir": str(tmp_path / "r"),
    }
    return load_config(flags=defaults | flags, environ={})


class Talk(Output):
    """What a person would see, kept."""

    def __init__(self) -> None:
        self.stderr, self.stdout = io.StringIO(), io.StringIO()
        super().__init__(stdout=self.stdout, stderr=self.stderr)

    @property
    def text(self) -> str:
        return self.stderr.getvalue()


async def test_run_ends_the_process_with_the_recorded_outcome(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        await RunnerBase(config(tmp_path), output=Talk()).run()
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        flags = {"mock.failure_rate": 1.0, "scheduler.max_attempts": 1, "output.dir": str(tmp_path / "s")}
        await RunnerBase(config(tmp_path, **flags), output=Talk()).run()
    assert ended.value.code == 3


async def test_the_guides_runner_may_answer_ok_to_a_failed_dispatch_and_it_is_still_no_success(tmp_path: Path) -> None:
    class Guides(RunnerBase):
        async def send_command_to_coordinator(self, command: str) -> dict[str, Any]:
            reply = await self.network.route_message("Runner", "Coordinator-1", {"text": command})
            return {"result": (reply or {}).get("text") or "OK"}

    (tmp_path / "r").write_text("a file is in the way")
    output = Talk()
    assert await Guides(config(tmp_path), output=output).execute() == 2
    assert "is a file" in output.text


class Elsewhere:
    """A coordinator in another process: only what it answers is known here."""

    def __init__(self, metadata: dict[str, Any] | None) -> None:
        self.metadata = metadata

    async def execute(self, context: Any, event_queue: Any) -> None:
        event = {"type": "agent_text_message", "data": "all is well"}
        await event_queue.enqueue_event(event | ({"metadata": self.metadata} if self.metadata else {}))


class TextOnly(InprocCommBackend):
    """Carries text and nothing else, as the guide's backends do."""

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        return {"raw": None, "text": (await super().send(src_id, dst_id, {"text": payload["text"]}))["text"]}


@pytest.mark.parametrize(("rate", "code"), [(0.0, 0), (1.0, 3)])
async def test_a_coordinator_elsewhere_over_text_alone_is_judged_by_its_status_line(tmp_path, rate, code) -> None:
    class External(RunnerBase):
        async def create_network(self) -> NetworkBase:
            return NetworkBase(TextOnly())

        async def setup_agents(self) -> list[str]:
            worker_ids = await super().setup_agents()
            self.network.services.clear()  # as where it runs elsewhere
            return worker_ids

    flags = {"mock.failure_rate": rate, "scheduler.max_attempts": 1}
    output = Talk()
    assert await External(config(tmp_path, **flags), output=output).execute() == code
    assert f"of 5 questions answered, {int(rate * 5)} failed: {tmp_path / 'r'}" in output.text


def runner_of(tmp_path: Path, metadata: dict[str, Any] | None) -> tuple[RunnerBase, Talk]:
    class External(RunnerBase):
        async def create_network(self) -> NetworkBase:
            return NetworkBase(InprocCommBackend())

        async def setup_agents(self) -> list[str]:
            handle = await self.network.comm_backend.spawn_local_agent("Coordinator-1", "", 0, Elsewhere(metadata))
            await self.network.register_agent("Coordinator-1", handle.base_url)
            return []

    output = Talk()
    return External(config(tmp_path), output=output), output


@pytest.mark.parametrize(
    ("figures", "code"),
    [
        ({"state": "done", "done": 5, "failed": 0, "total": 5}, 0),
        ({"state": "done", "done": 4, "failed": 1, "total": 5}, 3),
        ({"state": "stopped", "error": {"code": "quota", "message": "no credit"}}, 75),
        ({"state": "stopped", "error": {"code": "auth", "message": "401"}}, 77),
        ({"state": "failed", "error": {"code": "config", "message": "no such file"}}, 2),
        ({"state": "failed"}, 1),
        ({"state": "idle"}, 1),
        (None, 1),
    ],
)
async def test_a_coordinator_elsewhere_is_judged_by_its_figures_never_by_its_words(tmp_path, figures, code) -> None:
    runner, output = runner_of(tmp_path, figures)
    assert await runner.execute() == code
    if figures is None:
        assert "outcome" in output.text or "unknown" in output.text


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("x"), 2), (ConnectError("x"), 69), (QuotaError("x"), 75), (AuthError("x"), 77)]
)
async def test_a_failure_before_the_run_ends_with_its_code_and_its_text(tmp_path: Path, error, code) -> None:
    class Broken(RunnerBase):
        async def setup_agents(self) -> list[str]:
            raise error

    output = Talk()
    assert await Broken(config(tmp_path), output=output).execute() == code
    assert "[ERROR] x" in output.text


async def test_topologies(tmp_path: Path) -> None:
    class Kept(RunnerBase):
        async def _require_health(self) -> None:
            self.topology = self.network.get_topology()
            await super()._require_health()

    mesh = Kept(config(tmp_path, **{"network.topology": "mesh", "qa.worker.count": 2}), output=Talk())
    assert await mesh.execute() == 0
    assert mesh.topology["Worker-1"] == ["Coordinator-1", "Worker-2"]
    edges = [["Coordinator-1", "Worker-1"], ["Coordinator-1", "Worker-2"]]
    flags = {"network.topology": "custom", "network.edges": edges, "qa.worker.count": 2, "output.dir": None}
    custom = Kept(config(tmp_path, **flags | {"output.dir": str(tmp_path / "c")}), output=Talk())
    assert await custom.execute() == 0
    assert custom.topology["Worker-1"] == ["Coordinator-1"]


async def test_a_signal_before_the_dispatch_is_obeyed(tmp_path: Path) -> None:
    class Early(RunnerBase):
        async def send_command_to_coordinator(self, command: str) -> dict[str, Any] | None:
            if command == "status":
                signal.raise_signal(signal.SIGTERM)
                await asyncio.sleep(0)
            return await super().send_command_to_coordinator(command)

    assert await Early(config(tmp_path), output=Talk()).execute() == 143
    assert not (tmp_path / "r" / "queue.db").exists()
