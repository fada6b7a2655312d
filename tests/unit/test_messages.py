from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from unit.plain_backend import PlainBackend

from streaming_queue.core.network_base import NetworkBase
from streaming_queue.messages import DELTA, ERROR, MESSAGE, STATUS, Reply, answer_event, is_event, reply_of

WRONG = """
from streaming_queue.messages import StreamEvent

def show(event: StreamEvent) -> str:
    if event["type"] == "agent_error":
        return event["data"]  # wrong
    return event["data"]

EVENTS: list[StreamEvent] = [
    {"type": "agent_text_delta", "text": "a"},  # wrong
    {"type": "agent_text_message", "data": "a", "metadata": {"llm_ms": "1"}},  # wrong
]
"""


def test_a_reply_as_an_event_and_back() -> None:
    event = {"type": MESSAGE, "data": "a", "metadata": {"model": "m"}}
    assert answer_event(Reply(raw=0, text="a", metadata={"model": "m"})) == event
    assert answer_event(Reply(raw=0, text="a")) == {"type": MESSAGE, "data": "a"}
    assert reply_of(event) == {"raw": event, "text": "a", "metadata": {"model": "m"}}
    assert "metadata" not in reply_of({"type": MESSAGE, "data": "a"})


@pytest.mark.parametrize("kind", [DELTA, STATUS, MESSAGE])
@pytest.mark.parametrize("more", [{}, {"metadata": None}, {"metadata": {"mine": 1}}])
def test_an_event_of_a_wire(kind: str, more: dict[str, Any]) -> None:
    assert is_event({"type": kind, "data": "", **more})


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"type": [], "data": "x"},
        {"type": "other", "data": "x"},
        {"type": ERROR, "data": "x"},
        {"type": DELTA},
        {"type": MESSAGE, "data": 1},
        {"type": STATUS, "data": "x", "metadata": []},
    ],
)
def test_no_event_of_a_wire(document: object) -> None:
    assert not is_event(document)


async def test_a_backend_with_plain_dictionaries_runs() -> None:
    network = NetworkBase(PlainBackend())
    for agent_id in ("a", "b"):
        await network.register_agent(agent_id, f"plain://{agent_id}")
    network.setup_mesh_topology()
    reply = await network.route_message("a", "b", {"text": "hello"})
    assert (reply["text"], reply["metadata"]) == ("hello", {"llm_ms": 1.5})
    events = [event async for event in network.stream_message("a", "b", {"text": "hello"})]
    assert [event["type"] for event in events] == [STATUS, DELTA, MESSAGE]
    assert events[-1] == {"type": MESSAGE, "data": "hello", "metadata": {"llm_ms": 1.5, "mock": True}}
    await network.close()


def test_the_types_take_plain_dictionaries_and_refuse_wrong_ones(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "plain.py").write_text(Path(__file__).with_name("plain_backend.py").read_text())
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "plain.py", "wrong.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = {(name, int(line)) for name, line in re.findall(r"^(\w+\.py):(\d+): error", done.stdout, re.MULTILINE)}
    wrong = {("wrong.py", number) for number, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# wrong")}
    assert found == wrong, done.stdout + done.stderr
