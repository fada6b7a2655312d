"""The official SDK's client asks agents hosted by us, over every wire that the card offers."""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import Any

import grpc.aio
import httpx
import pytest
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import ClientConfig
from a2a.client.client_factory import ClientFactory
from a2a.client.errors import A2AClientError
from a2a.helpers.proto_helpers import get_artifact_text, get_message_text, new_text_message
from a2a.server.tasks.task_manager import append_artifact_to_task
from a2a.types.a2a_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import (
    A2AError,
    InvalidParamsError,
    MethodNotFoundError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from interop.a2a_agents import SdkEcho, SdkTask
from unit.comm.agents import Agent, Echo, Gate, message, soon

from streaming_queue.comm.base import HostLimits, HostOptions
from streaming_queue.errors import QuotaError, RateLimitedError
from streaming_queue.messages import DELTA, STATUS
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend

OLD_REST = ("HTTP+JSON", "0.3")
"""The SDK's client for it reads none of the SDK server's errors, only their status."""
WIRES = [("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("GRPC", "1.0"), ("JSONRPC", "0.3"), OLD_REST]


@pytest.fixture(params=WIRES, ids=" ".join)
def wire(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture
async def backend():
    backend = A2ACommBackend(grpc=True, host_options=HostOptions(limits=HostLimits(stop_s=1.0)))
    yield backend
    await backend.close()


@pytest.fixture
def handles() -> list[Any]:
    """Those of the executors that `connect` hosted."""
    return []


@pytest.fixture
async def connect(wire: tuple[str, str], backend: A2ACommBackend, handles: list[Any]):
    """Host an executor and make an SDK client that uses this wire only."""
    sessions: list[httpx.AsyncClient] = []
    clients: list[Any] = []

    url = ""

    async def connect(executor: Any = None, *, streaming: bool = False) -> Any:
        nonlocal url
        if executor is not None:
            handles.append(await backend.spawn_local_agent("w", "127.0.0.1", 0, executor))
            url = handles[-1].base_url
            await backend.register_endpoint("w", url)
        session = await asyncio.to_thread(httpx.AsyncClient, timeout=10, headers={"A2A-Version": wire[1]})
        sessions.append(session)
        card = await A2ACardResolver(session, url).get_agent_card()
        chosen = [item for item in card.supported_interfaces if (item.protocol_binding, item.protocol_version) == wire]
        assert chosen
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(chosen)
        config = ClientConfig(
            streaming=streaming,
            httpx_client=session,
            supported_protocol_bindings=[wire[0]],
            grpc_channel_factory=grpc.aio.insecure_channel,
        )
        clients.append(ClientFactory(config).create(card))
        return clients[-1]

    yield connect
    if wire[0] == "GRPC":
        for client in clients:
            await client.close()
    for session in sessions:
        await session.aclose()


def question(text: str, **more: Any) -> SendMessageRequest:
    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER, **more))


async def ask(client: Any, request: SendMessageRequest) -> list[Any]:
    return [event async for event in client.send_message(request)]


def kinds(events: list[Any]) -> list[str]:
    return [event.WhichOneof("payload") for event in events]


def updates(events: list[Any]) -> list[Any]:
    """The artifact's updates."""
    return [event.artifact_update for event in events if event.WhichOneof("payload") == "artifact_update"]


def answers(events: list[Any]) -> list[str]:
    """The texts of the artifacts that the SDK makes of the updates, part by part."""
    task = Task()
    for update in updates(events):
        append_artifact_to_task(task, update)
    return [part.text for artifact in task.artifacts for part in artifact.parts]


@pytest.mark.parametrize("text", ["hello", "中 🦜 \r\n\t\u2028 \"'", "x" * 500_000], ids=["plain", "odd", "long"])
async def test_a_short_answer_is_one_message(connect: Any, text: str):
    for streaming in (False, True):
        client = await connect(Echo(), streaming=streaming)
        [event] = await ask(client, question(text, context_id="ctx"))
        assert event.WhichOneof("payload") == "message"
        assert get_message_text(event.message) == text
        assert event.message.role == Role.ROLE_AGENT
        assert event.message.context_id == "ctx"
        [event] = await ask(client, question(text))
        assert event.message.context_id


async def test_parallel_answers_are_never_swapped(connect: Any):
    client = await connect(Echo())
    answers = await asyncio.gather(*(ask(client, question(f"q{n}")) for n in range(50)))
    assert [get_message_text(event.message) for [event] in answers] == [f"q{n}" for n in range(50)]


async def test_metadata_both_ways(connect: Any):
    async def behave(context: Any, queue: Any) -> None:
        assert context.call_context.attempt == 2
        await queue.enqueue_event(message("x", metadata={"seen": dict(context.metadata), "llm_ms": 1.5}))

    client = await connect(Agent(behave))
    request = question("q")
    request.message.metadata.update({"attempt": 2, "mine": {"a": [True, None, "b"]}})
    [event] = await ask(client, request)
    assert dict(event.message.metadata)["llm_ms"] == 1.5
    assert event.message.metadata["seen"]["attempt"] == 2
    assert list(event.message.metadata["seen"]["mine"]["a"]) == [True, None, "b"]


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_failure_is_an_error_without_a_strangers_text(connect: Any, wire: Any, streaming: bool):
    errors = iter([RateLimitedError("slow down", retry_after_s=2.5), QuotaError("empty"), ValueError("sk-123")])

    async def behave(context: Any, queue: Any) -> None:
        raise next(errors)

    client = await connect(Agent(behave), streaming=streaming)
    for said in ("slow down", "empty", "its log has the reason"):
        with pytest.raises((A2AError, A2AClientError), match="500" if wire == OLD_REST else said) as caught:
            await ask(client, question("q"))
        assert "sk-123" not in str(caught.value)


async def test_what_lasts_is_a_task_that_streams(connect: Any, wire: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": STATUS, "data": "thinking"})
        for piece in ("one ", "two ", "three"):
            await queue.enqueue_event({"type": DELTA, "data": piece})

    client = await connect(Agent(behave), streaming=True)
    events = await ask(client, question("q"))
    assert kinds(events)[0] == "task"
    assert events[0].task.status.state == TaskState.TASK_STATE_WORKING
    told = [(get_artifact_text(item.artifact), item.append, item.last_chunk) for item in updates(events)]
    assert told == [
        ("one ", False, False),
        ("two ", True, False),
        ("three", True, False),
        ("one two three", False, True),
    ]
    assert answers(events) == ["one two three"]
    assert events[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    task = await client.get_task(GetTaskRequest(id=events[0].task.id))
    assert task.status.state == TaskState.TASK_STATE_COMPLETED
    assert [get_artifact_text(artifact) for artifact in task.artifacts] == ["one two three"]
    after = [
        (UnsupportedOperationError, ask(client, question("again", task_id=task.id, context_id=task.context_id))),
        (UnsupportedOperationError, collect(client.subscribe(SubscribeToTaskRequest(id=task.id)))),
        (TaskNotCancelableError, client.cancel_task(CancelTaskRequest(id=task.id))),
    ]
    for cls, request in after:
        with pytest.raises(A2AClientError if wire == OLD_REST else cls):
            await request


async def test_a_task_is_begun_followed_asked_for_and_ended(connect: Any):
    gate = Gate()
    client, streaming = await connect(gate), await connect(streaming=True)
    request = question("q")
    request.configuration.CopyFrom(SendMessageConfiguration(return_immediately=True))
    [event] = await ask(client, request)
    assert event.task.status.state == TaskState.TASK_STATE_WORKING
    assert (await client.get_task(GetTaskRequest(id=event.task.id))).status.state == TaskState.TASK_STATE_WORKING
    await gate.started.wait()
    follow = asyncio.create_task(collect(streaming.subscribe(SubscribeToTaskRequest(id=event.task.id))))
    await asyncio.sleep(0.05)
    gate.open.set()
    events = await follow
    assert kinds(events) == ["task", "artifact_update", "status_update"]
    assert answers(events) == ["answer 1"]
    assert updates(events)[0].last_chunk
    task = await client.get_task(GetTaskRequest(id=event.task.id))
    assert task.status.state == TaskState.TASK_STATE_COMPLETED
    assert get_message_text(task.history[0]) == "q"


async def test_a_follow_up_on_a_task_keeps_its_context(connect: Any, handles: list[Any], wire: Any):
    seen: list[tuple[str, str]] = []
    end = asyncio.Event()

    async def behave(context: Any, queue: Any) -> None:
        text = context.get_user_input()
        seen.append((text, context.context_id))
        if text == "wait":
            await end.wait()
        await queue.enqueue_event(message(text))

    client, streaming = await connect(Agent(behave)), await connect(streaming=True)
    request = question("wait")
    request.configuration.CopyFrom(SendMessageConfiguration(return_immediately=True))
    [begun] = await ask(client, request)
    task_id, context_id = begun.task.id, begun.task.context_id
    for asker, more in ((client, {}), (streaming, {}), (client, {"context_id": context_id})):
        [event] = await ask(asker, question("and this?", task_id=task_id, **more))
        assert get_message_text(event.message) == "and this?"
        assert event.message.context_id == context_id
    request = question("as a task", task_id=task_id)
    request.configuration.CopyFrom(SendMessageConfiguration(return_immediately=True))
    [event] = await ask(client, request)
    assert (event.task.id != task_id, event.task.context_id) == (True, context_id)
    assert seen == [("wait", context_id)] + [("and this?", context_id)] * 3 + [("as a task", context_id)]
    mismatched = question("x", task_id=task_id, context_id="another")
    with pytest.raises(A2AClientError if wire == OLD_REST else InvalidParamsError):
        await ask(client, mismatched)
    end.set()
    await handles[0].drain(2)
    with pytest.raises(A2AClientError if wire == OLD_REST else UnsupportedOperationError) as caught:
        await ask(client, question("x", task_id=task_id))
    assert context_id in str(caught.value) or wire == OLD_REST


async def test_the_context_of_a_message_reaches_the_executor(connect: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(message(context.context_id))

    for streaming in (False, True):
        client = await connect(Agent(behave), streaming=streaming)
        [event] = await ask(client, question("q", context_id="c-1"))
        assert get_message_text(event.message) == event.message.context_id == "c-1"
        [event] = await ask(client, question("q"))
        assert get_message_text(event.message) == event.message.context_id != ""


async def test_a_words_metadata_come_with_it(connect: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": STATUS, "data": "half", "metadata": {"done": 5, "of": [10]}})
        await queue.enqueue_event(message("all"))

    events = await ask(await connect(Agent(behave), streaming=True), question("q"))
    [update, *_] = [event.status_update for event in events if event.WhichOneof("payload") == "status_update"]
    assert get_message_text(update.status.message) == "half"
    assert update.metadata["done"] == 5
    assert list(update.metadata["of"]) == [10]


async def test_a_task_is_cancelled(connect: Any):
    gate = Gate()
    client = await connect(gate)
    request = question("q")
    request.configuration.CopyFrom(SendMessageConfiguration(return_immediately=True))
    [event] = await ask(client, request)
    await gate.started.wait()
    started = time.monotonic()
    task = await client.cancel_task(CancelTaskRequest(id=event.task.id))
    assert task.status.state == TaskState.TASK_STATE_CANCELED
    assert gate.cancelled == 1
    assert time.monotonic() - started < 5
    assert (await client.get_task(GetTaskRequest(id=task.id))).status.state == TaskState.TASK_STATE_CANCELED


async def test_a_silent_answer_becomes_a_task(connect: Any, monkeypatch: pytest.MonkeyPatch):
    await asyncio.to_thread(importlib.import_module, "streaming_queue.protocol_backend.a2a.host")
    from streaming_queue.protocol_backend.a2a import handler

    monkeypatch.setattr(handler, "TASK_AFTER_S", 0.05)
    gate = Gate()
    client = await connect(gate, streaming=True)
    events = client.send_message(question("q"))
    assert (await anext(events)).task.status.state == TaskState.TASK_STATE_WORKING
    gate.open.set()
    rest = await collect(events)
    assert kinds(rest) == ["artifact_update", "status_update"]
    assert answers(rest) == ["answer 1"]
    assert updates(rest)[0].last_chunk


async def test_a_caller_that_leaves_ends_the_work(connect: Any):
    gate = Gate()
    client = await connect(gate)
    asking = asyncio.create_task(ask(client, question("q")))
    await gate.started.wait()
    asking.cancel()
    await asyncio.wait({asking})
    await soon(lambda: gate.cancelled == 1)


async def test_tasks_are_listed_where_the_version_knows_that(connect: Any, wire: tuple[str, str]):
    if wire[1] == "0.3":
        pytest.skip("0.3 lists no tasks")

    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": DELTA, "data": context.get_user_input()})
        await asyncio.sleep(0)

    client = await connect(Agent(behave), streaming=True)
    for number in range(3):
        await ask(client, question(f"q{number}"))
    page = await client.list_tasks(ListTasksRequest(page_size=2))
    assert (len(page.tasks), page.total_size) == (2, 3)
    assert not page.tasks[0].artifacts
    rest = await client.list_tasks(
        ListTasksRequest(page_size=2, page_token=page.next_page_token, include_artifacts=True)
    )
    assert len(rest.tasks) == 1
    assert rest.tasks[0].artifacts


async def test_a_task_that_is_not_there(connect: Any, wire: Any):
    client = await connect(Echo())
    for request in (
        client.get_task(GetTaskRequest(id="nothing")),
        client.cancel_task(CancelTaskRequest(id="nothing")),
        ask(client, question("q", task_id="nothing")),
    ):
        with pytest.raises(MethodNotFoundError if wire == OLD_REST else TaskNotFoundError):
            await request


# --- executors of the SDK, hosted as they are ---


async def test_an_sdk_executor_is_hosted_unchanged(connect: Any):
    [event] = await ask(await connect(SdkEcho()), question("hello"))
    assert get_message_text(event.message) == "hello"
    events = await ask(await connect(SdkTask(), streaming=True), question("hello"))
    assert kinds(events)[0] == "task"
    assert events[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED


async def test_a_follow_up_stays_in_its_tasks_context(connect: Any):
    agent = SdkTask()
    client = await connect(agent)
    [event] = await ask(client, question("input-required"))
    assert event.task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
    [event] = await ask(client, question("done", task_id=event.task.id))
    assert event.task.status.state == TaskState.TASK_STATE_COMPLETED
    assert agent.contexts == [(event.task.id, event.task.context_id)] * 2


async def test_an_sdk_executors_exception_keeps_its_text(connect: Any, wire: Any):
    client = await connect(SdkTask())
    said = "500" if wire == OLD_REST else "its log has the reason"
    with pytest.raises((A2AError, A2AClientError), match=said) as caught:
        await ask(client, question("raise"))
    assert "sk-123" not in str(caught.value)


async def test_an_sdk_executor_is_drained(connect: Any, handles: list[Any], wire: Any, backend: Any):
    agent = SdkTask()
    client = await connect(agent)
    request = question("wait")
    request.configuration.CopyFrom(SendMessageConfiguration(return_immediately=True))
    [begun] = await ask(client, request)
    await agent.started.wait()
    async with asyncio.timeout(10):
        await handles[0].drain(0.05)
    assert not await backend.health_check("w")
    with pytest.raises((A2AError, A2AClientError), match="500" if wire == OLD_REST else "drains"):
        await ask(client, question("more"))
    draining = asyncio.create_task(handles[0].drain(5))
    await asyncio.sleep(0.05)
    assert not draining.done()
    agent.gate.set()
    await draining
    assert (await client.get_task(GetTaskRequest(id=begun.task.id))).status.state == TaskState.TASK_STATE_COMPLETED
    assert len(agent.contexts) == 1


async def collect(stream: Any) -> list[Any]:
    return [event async for event in stream]
