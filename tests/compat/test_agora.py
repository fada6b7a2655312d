"""Our ends of agora against the package of its authors: its Sender asks our host, our client asks its Receiver."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from compat.conftest import environment
from unit.comm.agents import Agent, message

from streaming_queue.comm.host import respond
from streaming_queue.errors import RateLimitedError, RemoteError
from streaming_queue.protocol_backend.agora.comm import AgoraCommBackend
from streaming_queue.protocol_backend.agora.document import HASH

pytestmark = pytest.mark.timeout(600)  # the first builds the environment

PEERS = Path(__file__).with_name("agora_peers.py")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start(role, *arguments)` runs an end of theirs."""
    python = environment("agora-protocol", "agora-protocol==0.2.0") / "python"
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        with (tmp_path / "talk.txt").open("a") as talk:
            process = subprocess.Popen(
                [str(python), str(PEERS), *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=talk, text=True
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)


@pytest.fixture
async def backend() -> AsyncIterator[AgoraCommBackend]:
    backend = AgoraCommBackend()
    yield backend
    await backend.close()


def uses(tmp_path: Path) -> list[str]:
    """What their model was used for."""
    return (tmp_path / "model.txt").read_text().split()


async def receiver(start: Any, backend: AgoraCommBackend, takes_documents: str) -> str:
    process = start("receiver", takes_documents)
    url = f"http://127.0.0.1:{(await asyncio.to_thread(process.stdout.readline)).strip()}"
    await backend.register_endpoint("w", url)
    return url


async def asked(start: Any, *arguments: str) -> list[str]:
    process = start("sender", *arguments)
    out, _ = await asyncio.to_thread(process.communicate, timeout=60)
    return out.splitlines()


async def test_our_client_agrees_with_their_receiver_and_its_model_is_not_needed_any_more(
    start: Any, backend: AgoraCommBackend, tmp_path: Path
) -> None:
    await receiver(start, backend, "YES")
    assert await backend.health_check("w")
    replies = [
        await backend.send("c", "w", {"text": f"question {n}", "metadata": {"question_id": str(n), "attempt": 1}})
        for n in range(6)
    ]
    assert [reply["text"] for reply in replies] == [
        "model: question 0",
        "model, by the document: question 1",
        *[f"routine: question {n}" for n in range(2, 6)],
    ]
    assert replies[5]["metadata"] == {"seen": {"question_id": "5", "attempt": 1}}
    assert uses(tmp_path) == ["conversation", "protocolChecking", "conversation", "programming"]
    facts = await backend.describe("w")
    assert facts["speaks"] == "our document"


async def test_our_client_falls_back_where_their_receiver_declines(
    start: Any, backend: AgoraCommBackend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = await receiver(start, backend, "NO")
    texts = [(await backend.send("c", "w", {"text": f"question {n}"}))["text"] for n in range(4)]
    assert texts == [f"model: question {n}" for n in range(4)]
    assert uses(tmp_path) == ["conversation", "protocolChecking", *["conversation"] * 3]
    assert f"{url} is asked in natural language from now on" in caplog.text
    assert "is not suitable for execution" in caplog.text


async def test_their_failure_is_an_error_of_ours(start: Any, backend: AgoraCommBackend) -> None:
    url = await receiver(start, backend, "YES")
    with pytest.raises(RemoteError, match=f"{url}: answered error: 'the model is away'"):
        await backend.send("c", "w", {"text": "fail"})
    assert (await backend.send("c", "w", {"text": "question"}))["text"] == "model: question"


async def test_their_sender_negotiates_with_our_host_and_gets_its_answers_by_the_document(
    start: Any, backend: AgoraCommBackend, tmp_path: Path
) -> None:
    contexts: list[Any] = []

    async def behave(context: Any, queue: Any) -> None:
        contexts.append(context)
        await queue.enqueue_event(message(f"<{context.get_user_input()}>"))

    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Agent(behave))
    (agent,) = backend._agents
    told = await asked(start, handle.base_url, *[f"question {n}" for n in range(6)])
    assert told == [
        *[f"model: <question {n}>" for n in range(3)],
        *[f"routine: <question {n}>" for n in range(3, 6)],
    ], (tmp_path / "talk.txt").read_text()
    assert [context.get_user_input() for context in contexts] == [f"question {n}" for n in range(6)]
    assert contexts[0].context_id  # theirs is a conversation
    assert contexts[5].context_id is None
    assert len(agent.conversations) == 0
    assert HASH in (tmp_path / "sender.json").read_text()
    assert uses(tmp_path) == [
        "conversation",
        "negotiation",
        "negotiation",
        "conversation",
        "conversation",
        "programming",
    ]


async def test_our_failure_is_never_an_answer_at_their_sender(start: Any, backend: AgoraCommBackend) -> None:
    async def behave(context: Any, queue: Any) -> None:
        if context.get_user_input() == "fail":
            raise RateLimitedError("slow down")
        await queue.enqueue_event(message("fine"))

    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Agent(behave))
    questions = ["fail", "q", "q", "q", "fail", "q"]
    told = await asked(start, handle.base_url, *questions)
    assert [line if "fine" in line else "an error" for line in told] == [
        "an error", "model: fine", "model: fine", "routine: fine", "an error", "routine: fine",
    ]  # fmt: skip
    assert "slow down" not in "".join(told)


async def test_white_space_before_an_answer_is_nothing_to_their_sender(
    start: Any, backend: AgoraCommBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(respond, "HEARTBEAT_S", 0.02)

    async def behave(context: Any, queue: Any) -> None:
        await asyncio.sleep(0.2)
        await queue.enqueue_event(message("at last"))

    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Agent(behave))
    assert await asked(start, handle.base_url, "q", "q", "q", "q") == [*["model: at last"] * 3, "routine: at last"]
