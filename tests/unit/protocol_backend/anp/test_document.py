"""docs/protocols/anp.md says what is true: its programs work, its messages are those on the wire."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from unit.comm.agents import Agent, message
from unit.protocol_backend.anp.publisher import certificate, publisher, server_context

from streaming_queue.comm import jsonrpc
from streaming_queue.errors import RateLimitedError
from streaming_queue.messages import DELTA
from streaming_queue.protocol_backend.anp import documents, gate, remote_interface, resolver
from streaming_queue.protocol_backend.anp.description import STREAMS
from streaming_queue.protocol_backend.anp.identity import Identity

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

TEXT = (Path(__file__).parents[4] / "docs" / "protocols" / "anp.md").read_text(encoding="utf-8")
FLOWING = " ".join(TEXT.split())
AGENT, CLIENT = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
MESSAGES = [
    [json.loads(line) for line in block.splitlines()] for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
]


async def run(*arguments: Any, **options: Any) -> Any:
    return await asyncio.create_subprocess_exec(*map(str, arguments), stdout=asyncio.subprocess.PIPE, **options)


async def test_the_documents_agent_works(backend: Any, tmp_path: Path):
    path, script = certificate(tmp_path), tmp_path / "agent.py"
    script.write_text(AGENT)
    async with publisher(server_context(path), published := {}) as (port, _):
        us = await asyncio.to_thread(Identity.create, "us", port=port)
        await asyncio.to_thread(us.save, tmp_path / "us")
        published[us.path] = dict(us.document)
        process = await run(sys.executable, script, 0, env={**os.environ, "SSL_CERT_FILE": str(path)})
        try:
            agent_port = int(await process.stdout.readline())
            made = backend(identity=str(tmp_path / "us"))
            await made.register_endpoint("w", f"http://127.0.0.1:{agent_port}")
            assert await made.health_check("w")
            assert [(await made.send("c", "w", {"text": "hello"}))["text"] for _ in range(2)] == ["HELLO", "HELLO"]
        finally:
            process.kill()
            await process.wait()


async def _story(context: Any, queue: Any) -> None:
    if context.get_user_input() == "What?":
        raise RateLimitedError("slow down", retry_after_s=2.5)
    if context.streaming:
        await queue.enqueue_event({"type": DELTA, "data": "Par"})
        await queue.enqueue_event(message("Paris."))
        return
    await queue.enqueue_event(message("Paris.", metadata={"llm_ms": 412.5, "model": "small-1"}))


@pytest.mark.parametrize(("text", "told"), [("Where?", "Paris."), ("What?", "slow down")])
async def test_the_documents_client_works(backend: Any, caller: Identity, tmp_path: Path, text: str, told: str):
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    handle = await backend(trusted=[caller.did, str(tmp_path / "caller")]).spawn_local_agent(
        "w", "127.0.0.1", 0, Agent(_story)
    )
    process = await run(sys.executable, script, handle.base_url, tmp_path / "caller", text)
    said, _ = await process.communicate()
    assert said.decode().strip() == told


async def test_the_documents_messages_are_those_on_the_wire(backend: Any, caller: Identity, tmp_path: Path):
    [call], [answer], [error], events = MESSAGES
    handle = await backend(trusted=[str(tmp_path / "caller")]).spawn_local_agent("w", "127.0.0.1", 0, Agent(_story))
    url = f"{handle.base_url}/rpc"
    async with aiohttp.ClientSession() as session:

        async def post(body: Any, **headers: str) -> str:
            content = json.dumps(body).encode()
            async with session.post(
                url, data=content, headers={**caller.sign("POST", url, content), **headers}
            ) as response:
                return await response.text()

        assert json.loads(await post(call)) == answer
        assert json.loads(await post({**call, "params": {"text": "What?"}})) == error
        lines = (await post(call, Accept="text/event-stream")).split("\n\n")
        assert [json.loads(line.removeprefix("data: ")) for line in lines if line] == events


def test_the_documents_figures_are_ours():
    reasons = set(re.findall(r"^\| `(invalid_\w+)` \|", TEXT, re.MULTILINE))
    source = Path(gate.__file__).read_text(encoding="utf-8")
    assert reasons == set(re.findall(r'DeniedError\(\s*"(\w+)"', source))
    assert f"more than {gate.PAST_S} s ago or {gate.FUTURE_S} s ahead" in FLOWING
    assert f"expires_in={gate.TOKEN_S}" in FLOWING
    assert f"within {resolver.TIMEOUT_S:g} s and up to {documents.MAX_DOCUMENT_BYTES // 1024} KiB" in FLOWING
    assert f"code {jsonrpc.AGENT_ERROR}" in FLOWING
    assert f'"{STREAMS}": true' in FLOWING
    assert all(f"`{key}`" in TEXT for key in remote_interface._ANSWERS)
