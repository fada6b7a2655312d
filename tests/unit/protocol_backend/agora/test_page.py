"""The page's agent works, and its requests are answered as it says."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.comm.agents import Agent, message
from unit.comm.raw import ask, post

from streaming_queue.comm.context import annotate
from streaming_queue.config import Config
from streaming_queue.errors import AgentFailedError
from streaming_queue.protocol_backend.agora import document, host, sources
from streaming_queue.protocol_backend.agora.comm import AgoraCommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

TEXT = (Path(__file__).parents[4] / "docs" / "protocols" / "agora.md").read_text()
(AGENT,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
REQUESTS = re.findall(r"```sh\n(curl .*?)```", TEXT, re.DOTALL)
RESPONSES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]


async def test_the_pages_agent_works(backend: AgoraCommBackend, tmp_path: Path):
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), "0", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        await backend.register_endpoint("w", f"http://127.0.0.1:{int(await process.stdout.readline())}")
        assert await backend.health_check("w")
        first, second = [await backend.send("c", "w", {"text": "hello"}) for _ in range(2)]
        assert first == {"raw": {"status": "success", "body": "HELLO"}, "text": "HELLO"}
        assert (second["text"], second["metadata"]) == ("HELLO", {"model": "shouter-1"})
        with pytest.raises(AgentFailedError, match="nothing was asked") as caught:
            await backend.send("c", "w", {"text": ""})
        assert caught.value.retryable is False
        assert (await backend.describe("w"))["speaks"] == "our document"
    finally:
        await backend.close()
        process.kill()
        await process.wait()


async def test_the_pages_requests_are_answered_as_it_says(spawn: Any):
    async def behave(context: Any, queue: Any) -> None:
        if context.metadata:
            annotate(llm_ms=412.5)
        await queue.enqueue_event(message("Paris."))

    port, _ = await spawn(Agent(behave))
    answers = []
    for command in REQUESTS:
        body = re.search(r"-d '(.*?)'", command)
        assert body is not None
        answers.append((await ask(port, post("/", body[1].encode(), *re.findall(r"-H '(.*?)'", command)))).json)
    assert answers[:2] == RESPONSES
    assert answers[2].keys() == {"status", "body", "conversationId", "conversationExpires"}


def test_the_page_knows_the_document_and_the_limits():
    assert set(re.findall(r"[\w+/]{27}=", TEXT)) == {document.HASH}
    assert document.MAX_DOCUMENT_BYTES == 64 * 1024
    assert (host.MAX_CONVERSATIONS, host.CONVERSATION_S) == (4096, 300)
    assert (sources.MOST_TRIED, sources.FETCH_TIMEOUT_S, sources.MOST_KEPT) == (4, 5, 64)
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert Config.of(yaml.safe_load(example)).agora.sources == ("data:", "https://documents.example.org")
