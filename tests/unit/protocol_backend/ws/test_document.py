"""The document's programs work, and its frames are the ones on the wire."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import Agent, message
from websockets.asyncio.client import connect

from streaming_queue.errors import ConfigError, RateLimitedError
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.ws.comm import WsCommBackend
from streaming_queue.protocol_backend.ws.frames import LIMIT_HEADER, REQUEST_LIMIT, SUBPROTOCOL

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

TEXT = (Path(__file__).parents[4] / "docs" / "protocols" / "ws.md").read_text()
WORKER, CLIENT = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
FRAMES = [
    [json.loads(line) for line in block.splitlines()] for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
]


@pytest.fixture
async def backend():
    backend = WsCommBackend()
    yield backend
    await backend.close()


async def test_the_documents_worker_works(backend: WsCommBackend, tmp_path: Path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), "0", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        await backend.register_endpoint("w", f"ws://127.0.0.1:{port}")
        assert await backend.health_check("w")
        assert (await backend.send("c", "w", {"text": "hello"}))["text"] == "HELLO"
        events = [event async for event in backend.stream("c", "w", {"text": "hello"})]
        assert events == [{"type": MESSAGE, "data": "HELLO"}]
        with pytest.raises(ConfigError, match="text only"):
            await backend.send("c", "w", {"parts": [{"kind": "text", "text": "x"}]})
    finally:
        await backend.close()
        process.kill()
        await process.wait()


async def _story(context: Any, queue: Any) -> None:
    if context.get_user_input() != "Tell me a story.":
        raise RateLimitedError("slow down", retry_after_s=2.5)
    await queue.enqueue_event({"type": STATUS, "data": "looking it up"})
    await queue.enqueue_event({"type": DELTA, "data": "Once upon "})
    await queue.enqueue_event({"type": DELTA, "data": "a time."})
    await queue.enqueue_event(message("Once upon a time.", metadata={"llm_ms": 950.1}))


@pytest.mark.parametrize(("text", "told"), [("Tell me a story.", "Once upon a time."), ("What?", "slow down")])
async def test_the_documents_client_works(backend: WsCommBackend, tmp_path: Path, text: str, told: str):
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Agent(_story))
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), handle.base_url, text, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert (process.returncode, said.decode().strip()) == (0, told)


async def test_the_documents_frames_are_those_on_the_wire(backend: WsCommBackend):
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Agent(_story))
    [request], [answer], [error], [streamed], events = FRAMES
    async with connect(handle.base_url, subprotocols=[SUBPROTOCOL], proxy=None) as peer:
        assert peer.response.headers[LIMIT_HEADER] == str(REQUEST_LIMIT)
        await peer.send(json.dumps(request))
        assert json.loads(await peer.recv()) == error
        await peer.send(json.dumps(streamed))
        assert [json.loads(await peer.recv()) for _ in events] == events
    assert answer["id"] == request["id"]
    assert answer["type"] == MESSAGE
