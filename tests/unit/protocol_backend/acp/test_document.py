"""docs/protocols/acp.md says what is true, and the worker that it shows is one."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import Agent, message
from unit.comm.raw import ask, get, post

from streaming_queue.comm.base import HostLimits
from streaming_queue.comm.context import annotate
from streaming_queue.comm.host.execution import HEARTBEAT_S
from streaming_queue.errors import RateLimitedError
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.acp import codec, exchange, runs, sessions
from streaming_queue.protocol_backend.acp.comm import AcpCommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

TEXT = (Path(__file__).parents[4] / "docs" / "protocols" / "acp.md").read_text(encoding="utf-8")
FLOWING = " ".join(TEXT.split())
RUN, ERROR = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))
QUESTION = RUN["output"][0]["parts"][0]["content"]


@pytest.fixture
async def backend() -> AsyncIterator[AcpCommBackend]:
    backend = AcpCommBackend()
    yield backend
    await backend.close()


async def test_the_worker_shown_is_a_worker(backend: AcpCommBackend, tmp_path: Path):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    script = tmp_path / "worker.py"
    script.write_text(code)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), "0", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        await backend.register_endpoint("w", f"http://127.0.0.1:{port}")
        assert await backend.health_check("w")
        assert (await backend.describe("w"))["description"] == "Shouts."
        assert (await backend.send("c", "w", {"text": "hello"}))["text"] == "HELLO"
        events = [event async for event in backend.stream("c", "w", {"text": "hello"})]
        assert events == [{"type": MESSAGE, "data": "HELLO"}]
    finally:
        await backend.close()
        process.kill()
        await process.wait()


async def _behave(context: Any, queue: Any) -> None:
    if context.get_user_input() == "now":
        raise RateLimitedError("slow down", retry_after_s=2.5)
    annotate(**RUN["metadata"])
    await queue.enqueue_event({"type": STATUS, "data": "looking it up"})
    await queue.enqueue_event({"type": DELTA, "data": "Par"})
    await queue.enqueue_event(message("Paris."))


async def test_the_run_shown_is_answered_as_shown_and_an_error_is(backend: AcpCommBackend):
    handle = await backend.spawn_local_agent("Worker-1", "127.0.0.1", 0, Agent(_behave))
    port = int(handle.base_url.rpartition(":")[2])
    [shown] = re.findall(r"curl http://127.0.0.1:10001(/runs) -d '(.*?)'", TEXT, re.DOTALL)
    answer = (await ask(port, post(shown[0], shown[1].encode()))).json
    changing = {"run_id": 0, "created_at": 0, "finished_at": 0}
    assert answer | changing == RUN | changing
    failed = (await ask(port, post("/runs", shown[1].replace("What is the capital of France?", "now").encode()))).json
    assert failed["error"] == ERROR
    listed = (await ask(port, get(f"/runs/{answer['run_id']}/events"))).json["events"]
    table = TEXT.partition("## Streaming")[2].partition("## Errors")[0]
    columns = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    failures = {"run.failed", "run.cancelled"}
    assert set(re.findall(r"`(.*?)`", columns)) == {event["type"] for event in listed} | failures


async def test_every_endpoint_is_listed(backend: AcpCommBackend):
    handle = await backend.spawn_local_agent("Worker-1", "127.0.0.1", 0, Agent(_behave))
    port = int(handle.base_url.rpartition(":")[2])
    rows = re.findall(r"^\| `(GET|POST) (/\S*)` \|", TEXT, re.MULTILINE)
    assert len(rows) == 10
    for method, path in rows:
        filled = path.replace("{name}", "worker-1").replace("{id}", "00000000-0000-4000-8000-000000000000")
        answer = await ask(port, get(filled) if method == "GET" else post(filled, b"{}"))
        known = {"/runs": 422}.get(path, 404 if "{id}" in path else 200)
        assert answer.status == known, path
        assert "there is nothing at" not in answer.json.get("message", "") or path.startswith(
            ("/sessions", "/resources")
        )


def test_the_figures_are_those_of_the_code():
    minutes = f"{HostLimits().disconnect_grace_s / 60:.0f} minutes"
    assert f"has {minutes} to come back" in FLOWING
    assert f"can be read for {runs.KEPT_S / 60:.0f} minutes: the last {runs.MAX_ENDED} of them" in FLOWING
    assert runs.MAX_CHARACTERS == sessions.MAX_CHARACTERS == 16 * 1024 * 1024
    assert f"{sessions.MAX_SESSIONS} sessions" in FLOWING
    assert f"every {HEARTBEAT_S:.0f} s, as a sign of life" in FLOWING
    assert f"every {exchange.SILENT_S:.0f} s" in FLOWING
    assert f"`{codec.CALL_EXTENSION}`" in FLOWING
