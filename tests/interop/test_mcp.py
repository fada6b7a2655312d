"""Our ends of MCP against the official SDK: its servers in every mode they have, its client against our host."""

from __future__ import annotations

import asyncio
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared._httpx_utils import create_mcp_http_client
from unit.comm.agents import Agent, Gate, message, soon

from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.context import listening
from streaming_queue.comm.host.asgi import serve
from streaming_queue.errors import AgentFailedError, AuthError, ConfigError, ProtocolError
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.mcp.comm import McpCommBackend

no_stray_tasks = pytest.mark.usefixtures("no_stray_tasks")  # not with streams of the SDK: sse-starlette leaves one

TEXT = '"quotes" \\back\\ \t\r\n 字 🦜 \x00 \x1b[31m \u2028'
MODERN, HANDSHAKE = "2026-07-28", "2025-11-25"
STDIO = f"stdio:{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).with_name('mcp_server.py')))}"


# --- their servers, our client ---


class Clerk:
    """A server with one tool that can be asked by a text, and what became of its calls."""

    def __init__(self) -> None:
        self.server = MCPServer("clerk")
        self.started = 0
        self.cancelled = 0
        self.server.tool()(self.ask)
        self.server.tool()(self.add)

    async def ask(self, question: str, context: Context) -> str:
        if question == "wait":
            self.started += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if question == "fail":
            raise ToolError("the register is empty")
        await context.report_progress(1, 2, "looking it up")
        return question

    async def add(self, a: int, b: int) -> int:
        return a + b


@pytest.fixture
def modes(request: pytest.FixtureRequest) -> tuple[bool, bool, str]:
    return request.param


EVERY_MODE = pytest.mark.parametrize(
    "modes",
    [
        (stateless, json, version)
        for version in (MODERN, HANDSHAKE)
        for stateless in (False, True)
        for json in (False, True)
    ],
    ids=lambda modes: f"{'stateless' if modes[0] else 'stateful'} {'json' if modes[1] else 'sse'} {modes[2]}",
    indirect=True,
)


@pytest.fixture
async def clerk(modes: tuple[bool, bool, str]):
    clerk = Clerk()
    app = clerk.server.streamable_http_app(stateless_http=modes[0], json_response=modes[1])
    server = await serve(app, host="127.0.0.1", port=0, options=HostOptions(), name="clerk", lifespan=True)
    clerk.address = f"{server.base_url}/mcp"
    yield clerk
    await server.stop()


@pytest.fixture
async def backend(modes: tuple[bool, bool, str]):
    backend = McpCommBackend(version=modes[2])
    yield backend
    await backend.close()


@EVERY_MODE
async def test_a_server_of_the_sdk(backend: McpCommBackend, clerk: Any, modes: tuple[bool, bool, str]):
    _, json, version = modes
    await backend.register_endpoint("w", clerk.address)
    assert await backend.health_check("w")
    replies = await asyncio.gather(*(backend.send("c", "w", {"text": f"{TEXT} {n}"}) for n in range(20)))
    assert [reply["text"] for reply in replies] == [f"{TEXT} {n}" for n in range(20)]
    events = [event async for event in backend.stream("c", "w", {"text": TEXT})]
    progress = {"type": STATUS, "data": "looking it up", "metadata": {"progress": 1, "total": 2}}
    assert events == [*([] if json else [progress]), {"type": MESSAGE, "data": TEXT}]
    with pytest.raises(AgentFailedError, match="the register is empty"):
        await backend.send("c", "w", {"text": "fail"})
    about = await backend.describe("w")
    assert (about["name"], about["protocol"], about["tool"]) == ("clerk", f"MCP {version}", "ask(question)")
    assert about["tools"] == "ask, add"


@EVERY_MODE
async def test_cancelling_a_server_of_the_sdk(backend: McpCommBackend, clerk: Any, modes: tuple[bool, bool, str]):
    stateless, json, version = modes
    await backend.register_endpoint("w", clerk.address)
    asking = asyncio.create_task(backend.send("c", "w", {"text": "wait"}))
    await soon(lambda: clerk.started == 1)
    asking.cancel()
    await asyncio.wait({asking}, timeout=1)
    assert asking.cancelled()
    reaches = (version == MODERN and not json) or (version == HANDSHAKE and not stateless)
    if reaches:
        await soon(lambda: clerk.cancelled == 1)


@pytest.mark.parametrize("modes", [(False, True, HANDSHAKE)], indirect=True)
async def test_a_lost_session_is_begun_anew(backend: McpCommBackend, clerk: Any):
    await backend.register_endpoint("w", clerk.address)
    assert (await backend.send("c", "w", {"text": "one"}))["text"] == "one"
    manager = clerk.server.session_manager
    for transport in list(manager._server_instances.values()):
        await transport.terminate()
    manager._server_instances.clear()
    assert (await backend.send("c", "w", {"text": "two"}))["text"] == "two"
    assert len(manager._server_instances) == 1
    await backend.close()
    assert len(manager._server_instances) == 0, "the session was ended with its client"


@pytest.mark.parametrize("modes", [(True, False, MODERN)], indirect=True)
async def test_progress_is_a_sign_of_life_whoever_sends(backend: McpCommBackend, clerk: Any):
    await backend.register_endpoint("w", clerk.address)
    heard = []
    with listening(lambda: heard.append(1)):
        await backend.send("c", "w", {"text": "x"})
    assert heard


@pytest.mark.parametrize("modes", [(True, True, MODERN)], indirect=True)
async def test_which_tool_of_a_server_is_asked(clerk: Any):
    for options, told in [
        ({"tool": "nothing"}, r"no tool 'nothing' \(mcp.tool\); it has ask\(question\), add\(a, b\)"),
        ({"tool": "add"}, r"which argument of add\(a, b\) takes the question"),
    ]:
        backend = McpCommBackend(**options)
        await backend.register_endpoint("w", clerk.address)
        with pytest.raises(ConfigError, match=told):
            await backend.connect("c", "w")
        await backend.close()


# --- their servers on standard input and output ---


@no_stray_tasks
@pytest.mark.parametrize("version", [MODERN, pytest.param(HANDSHAKE, marks=pytest.mark.interop)])
async def test_a_command_of_the_sdk(version: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "streaming_queue.protocol_backend.mcp")
    backend = McpCommBackend(version=version)
    try:
        await backend.register_endpoint("w", STDIO)
        assert await backend.health_check("w")
        replies = await asyncio.gather(*(backend.send("c", "w", {"text": f"{TEXT} {n}"}) for n in range(20)))
        assert [reply["text"] for reply in replies] == [f"{TEXT} {n}" for n in range(20)]
        events = [event async for event in backend.stream("c", "w", {"text": TEXT})]
        progress = {"type": STATUS, "data": "looking it up", "metadata": {"progress": 1, "total": 2}}
        assert events == [progress, {"type": MESSAGE, "data": TEXT}]
        asking = asyncio.create_task(backend.send("c", "w", {"text": "wait"}))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.wait({asking}, timeout=1)
        await soon(lambda: "cancelled" in caplog.text)
    finally:
        await backend.close()


# --- their client, our host ---


async def behave(context: Any, queue: Any) -> None:
    text = context.get_user_input()
    if text == "fail":
        raise ProtocolError("the question is none")
    await queue.enqueue_event({"type": STATUS, "data": "thinking"})
    await queue.enqueue_event({"type": DELTA, "data": text})
    await queue.enqueue_event(message(text, metadata={"llm_ms": 1.5}))


@pytest.fixture
async def host():
    backend = McpCommBackend()
    yield backend
    await backend.close()


@no_stray_tasks
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_client_of_the_sdk(host: McpCommBackend, mode: str):
    handle = await host.spawn_local_agent("w", "127.0.0.1", 0, Agent(behave))
    async with Client(handle.base_url, mode=mode) as client:
        assert client.protocol_version == (MODERN if mode == "auto" else HANDSHAKE)
        (tool,) = (await client.list_tools()).tools
        assert (tool.name, tool.input_schema["required"]) == ("ask", ["question"])
        result = await client.call_tool("ask", {"question": TEXT})
        assert ([block.text for block in result.content], result.is_error) == ([TEXT], False)
        assert result.meta["streaming-queue/metadata"] == {"llm_ms": 1.5}
        told = []

        async def on_progress(progress: float, total: float | None, text: str | None) -> None:
            told.append((progress, total, text))

        await client.call_tool("ask", {"question": TEXT}, progress_callback=on_progress)
        await soon(lambda: len(told) == 2)
        assert told == [(1, None, "thinking"), (2, None, TEXT)]
        failed = await client.call_tool("ask", {"question": "fail"})
        assert failed.is_error
        assert failed.content[0].text == "the question is none"
        for name, arguments in (("other", {"question": "x"}), ("ask", {}), ("ask", {"question": 1})):
            with pytest.raises(MCPError):
                await client.call_tool(name, arguments)


@no_stray_tasks
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_sdks_client_cancels(host: McpCommBackend, mode: str):
    gate = Gate()
    handle = await host.spawn_local_agent("w", "127.0.0.1", 0, gate)
    async with Client(handle.base_url, mode=mode) as client:
        asking = asyncio.create_task(client.call_tool("ask", {"question": "q"}))
        await gate.started.wait()
        asking.cancel()
        await asyncio.wait({asking})
        await soon(lambda: gate.cancelled == 1)
        await client.list_tools()  # their client breaks where it is left before the late response is there


@no_stray_tasks
async def test_the_sdks_client_needs_the_hosts_credential():
    async def authenticator(credential: str) -> str | None:
        return "ada" if credential == "right" else None

    backend = McpCommBackend(host_options=HostOptions(authenticator=authenticator))
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Agent(behave))
    try:
        async with (
            create_mcp_http_client(headers={"Authorization": "Bearer right"}) as http,
            Client(streamable_http_client(handle.base_url, http_client=http)) as client,
        ):
            assert (await client.call_tool("ask", {"question": "x"})).content[0].text == "x"
        with pytest.raises(BaseException):  # noqa: B017 (whatever their task group makes of it)
            async with Client(handle.base_url):
                pass
        await backend.register_endpoint("w", handle.base_url)
        with pytest.raises(AuthError):
            await backend.send("c", "w", {"text": "x"})
    finally:
        await backend.close()
