"""MCP servers that do not keep to the protocol, keep to an older one, or are none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from unit.comm.agents import soon
from unit.protocol_backend.mcp.peer import (
    ASK,
    DISCOVERED,
    INITIALIZED,
    MODERN,
    OLDER,
    Peer,
    answer,
    end,
    error,
    events,
    progress,
    result,
    texts,
)

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES
from streaming_queue.comm.base import EndpointOptions
from streaming_queue.errors import (
    AgentFailedError,
    AuthError,
    CommError,
    ConfigError,
    ConnectError,
    ProtocolError,
    RateLimitedError,
    RemoteError,
)
from streaming_queue.messages import MESSAGE, STATUS
from streaming_queue.protocol_backend.mcp.comm import McpCommBackend
from streaming_queue.protocol_backend.mcp.dialect import EXTENSION, IDEMPOTENCY_KEY

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

HTML = b"<html>\x1b[31mIt works!</html>"
OURS = {**DISCOVERED, "capabilities": {"tools": {}, "extensions": {EXTENSION: {}}}}


@pytest.fixture
async def make():
    """Make a backend with these options."""
    backends: list[McpCommBackend] = []

    def make(**options: Any) -> McpCommBackend:
        backends.append(McpCommBackend(**options))
        return backends[-1]

    yield make
    for backend in backends:
        await backend.close()


@pytest.fixture
def backend(make: Callable[..., McpCommBackend]) -> McpCommBackend:
    return make(options={"w": EndpointOptions(credential="s3cret", headers={"X-Team": "blue"})})


async def send(backend: McpCommBackend, peer: Peer, text: str = "q", **metadata: Any) -> Any:
    await backend.register_endpoint("w", peer.url)
    async with asyncio.timeout(5):
        return await backend.send("c", "w", {"text": text, "metadata": metadata})


async def stream(backend: McpCommBackend, peer: Peer) -> list[Any]:
    await backend.register_endpoint("w", peer.url)
    async with asyncio.timeout(5):
        return [event async for event in backend.stream("c", "w", {"text": "q"})]


# --- what is agreed on ---


async def test_a_modern_server_is_asked_without_a_handshake(backend: McpCommBackend):
    async with Peer() as peer:
        for _ in range(3):
            assert (await send(backend, peer, run_id="r", traceparent="00-1"))["text"] == "fine"
        assert await stream(backend, peer) == [{"type": MESSAGE, "data": "fine"}]
    assert peer.methods == ["server/discover", "tools/list", *["tools/call"] * 4]
    head, call = peer.heads[2].lower(), peer.calls[2]
    fields = {"authorization: bearer s3cret", "x-team: blue", "mcp-protocol-version: 2026-07-28"}
    assert fields | {"mcp-method: tools/call", "mcp-name: ask"} <= {*head.split("\r\n")}
    assert call["params"]["arguments"] == {"question": "q"}
    meta = call["params"]["_meta"]
    assert (meta["traceparent"], meta["streaming-queue/context"]) == ("00-1", {"run_id": "r"})
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert len({call["id"] for call in peer.calls}) == len(peer.calls)


async def test_an_older_server_has_its_handshake_and_its_session(backend: McpCommBackend):
    initialized = lambda call: answer(  # noqa: E731
        {"jsonrpc": "2.0", "id": call["id"], "result": INITIALIZED}, "200 OK", "mcp-session-id: s-1"
    )
    async with Peer({**OLDER, "initialize": initialized}) as peer:
        assert await backend.register_endpoint("w", peer.url) is None
        assert await backend.health_check("w")
        assert (await send(backend, peer))["text"] == "fine"
        await backend.close()
    handshake = ["server/discover", "initialize", "notifications/initialized", "tools/list", "ping"]
    assert peer.methods == [*handshake, "tools/call"]
    assert peer.calls[1]["params"]["protocolVersion"] == "2025-11-25"
    assert "mcp-session-id" not in peer.heads[1].lower()
    for head in peer.heads[2:]:
        assert {"mcp-session-id: s-1", "mcp-protocol-version: 2025-11-25"} <= {*head.lower().split("\r\n")} or (
            head.startswith("DELETE") and "mcp-session-id: s-1" in head.lower()
        )
    assert peer.heads[-1].startswith("DELETE /mcp ")


@pytest.mark.parametrize(
    "discover",
    [
        error(-32022, "400 Bad Request", data={"supported": ["2025-06-18"], "requested": "2026-07-28"}),
        error(-32600, "400 Bad Request"),
        result({"supportedVersions": ["2025-11-25"], "capabilities": {}}),
        answer(b"Bad Request: no session", "400 Bad Request", kind="text/plain"),
        answer(b"", "404 Not Found"),
        answer(b"", "405 Method Not Allowed"),
        answer(b"", "406 Not Acceptable"),
        answer(b"oops", "500 Internal Server Error"),
    ],
    ids=range(8),
)
async def test_who_does_not_disclose_is_greeted(backend: McpCommBackend, discover: Any):
    async with Peer({**OLDER, "server/discover": discover}) as peer:
        assert (await send(backend, peer))["text"] == "fine"
        assert peer.methods[:2] == ["server/discover", "initialize"]


@pytest.mark.parametrize("version", ["2025-06-18", "2025-03-26", "2024-11-05"])
async def test_a_server_may_want_an_older_version(make: Any, version: str):
    initialized = result({**INITIALIZED, "protocolVersion": version})
    async with Peer({**OLDER, "initialize": initialized}) as peer:
        backend = make(version="2025-11-25")
        assert (await send(backend, peer))["text"] == "fine"
        assert (await backend.describe("w"))["protocol"] == f"MCP {version}"
        assert f"mcp-protocol-version: {version}" in peer.heads[-1].lower()
        assert "server/discover" not in peer.methods


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"initialize": result({**INITIALIZED, "protocolVersion": "1999-01-01"})}, "no version in common"),
        ({"initialize": result({})}, "answers `initialize` without a `protocolVersion`"),
        ({"initialize": error(-32022, "400 Bad", data={"supported": ["2030-01-01"]})}, "it supports '2030-01-01'"),
        ({"initialize": error(-32603)}, "MCP error -32603"),
        ({"initialize": answer(HTML, kind="text/html")}, "answered 'text/html', not MCP"),
        ({"initialize": answer(HTML, "404 Not Found", kind="text/html")}, "404.*often at /mcp"),
        ({"initialize": answer(HTML, "502 Bad Gateway")}, "answered 502"),
        ({"tools/list": result({})}, "its list of tools is not a list"),
        ({"tools/list": result({"tools": [], "nextCursor": "again"})}, "more than 100 pages"),
    ],
    ids=range(9),
)
async def test_who_cannot_be_agreed_with_is_out_of_reach(backend: McpCommBackend, table: Any, told: str):
    async with Peer({**OLDER, **table}) as peer:
        with pytest.raises((ConnectError, ProtocolError), match=rf"(?s)^{peer.url}: .*{told}") as caught:
            await send(backend, peer)
        assert str(caught.value).isprintable()
        assert not await backend.health_check("w")
        peer.table |= OLDER
        assert (await send(backend, peer))["text"] == "fine", "and may be in reach again"


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_a_refused_credential_is_said_at_once(backend: McpCommBackend, status: str):
    async with Peer({"server/discover": answer(HTML, status)}) as peer:
        with pytest.raises(AuthError, match=f"^{peer.url}: answered {status[:3]}"):
            await send(backend, peer)
        assert peer.methods == ["server/discover"]


async def test_all_who_need_it_agree_once(backend: McpCommBackend):
    async with Peer() as peer:
        await asyncio.gather(*(send(backend, peer) for _ in range(20)))
        assert peer.methods.count("server/discover") == peer.methods.count("tools/list") == 1


async def test_a_silent_server_is_given_up(backend: McpCommBackend, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("streaming_queue.protocol_backend.mcp.http_link.HttpLink.patience_s", 0.3)
    async with Peer({"server/discover": b"", "initialize": b""}) as peer:
        with pytest.raises(ConnectError, match=f"^{peer.url}: did not agree on a version within 0.3 s"):
            await send(backend, peer)


async def test_closing_ends_who_waits_for_an_agreement(backend: McpCommBackend):
    async with Peer({"server/discover": b""}) as peer:
        asking = asyncio.create_task(send(backend, peer))
        await soon(lambda: peer.calls)
        await backend.close()
        with pytest.raises(CommError, match="closed"):
            await asking


# --- which tool ---


async def test_the_tool_is_chosen_over_all_pages_and_its_headers_are_sent(make: Any):
    wanted = {
        "name": "字 ask",
        "inputSchema": {
            "properties": {
                "q": {"type": "string"},
                "region": {"type": "string", "x-mcp-header": "Region"},
                "n": {"type": "integer", "x-mcp-header": "N"},
                "deep": {"type": "object", "properties": {"on": {"type": "boolean", "x-mcp-header": "On"}}},
            },
            "required": ["q", "region"],
        },
    }

    def pages(call: dict[str, Any]) -> bytes:
        page = {"tools": [wanted]} if call["params"].get("cursor") == "2" else {"tools": [ASK], "nextCursor": "2"}
        return result(page)(call)

    backend = make(tool="字 ask", arguments={"region": "süd", "n": 3, "deep": {"on": True}})
    async with Peer(tools_list=pages) as peer:
        assert (await send(backend, peer))["text"] == "fine"
    assert peer.calls[-1]["params"]["arguments"] == {"region": "süd", "n": 3, "deep": {"on": True}, "q": "q"}
    fields = {*peer.heads[-1].split("\r\n")}
    assert {"Mcp-Name: =?base64?5a2XIGFzaw==?=", "Mcp-Param-Region: =?base64?c8O8ZA==?="} <= fields
    assert {"Mcp-Param-N: 3", "Mcp-Param-On: true"} <= fields


async def test_a_server_without_the_tool_is_a_mistake_in_the_configuration(make: Any):
    async with Peer(tools_list=result({"tools": []})) as peer:
        with pytest.raises(ConfigError, match=f"^{peer.url}: no tool takes just one text"):
            await send(make(), peer)
        with pytest.raises(ConfigError, match=rf"^{peer.url}: no tool 'x' \(mcp.tool\); it has none"):
            await send(make(tool="x"), peer)


async def test_a_tool_that_went_away_is_looked_for_again(backend: McpCommBackend):
    async with Peer() as peer:
        await send(backend, peer)
        peer.table["tools/call"] = error(-32602)
        peer.table["tools/list"] = result({"tools": [{**ASK, "name": "other"}]})
        with pytest.raises(ProtocolError, match=f"^{peer.url}: MCP error -32602"):
            await send(backend, peer)
        peer.table["tools/call"] = result(texts("fine"))
        await send(backend, peer)
        assert peer.calls[-1]["params"]["name"] == "other"


# --- answers ---


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (texts("fine"), "fine"),
        (texts(""), ""),
        (texts("one", "two\n"), "one\ntwo\n"),
        (texts("fine", isError=False, resultType="complete", structuredContent={"x": 1}), "fine"),
        ({"content": [{"type": "image", "data": "", "mimeType": "x"}, *texts("fine")["content"]]}, "fine"),
    ],
    ids=range(5),
)
async def test_an_answer(backend: McpCommBackend, document: Any, text: str):
    async with Peer(tools_call=result(document)) as peer:
        reply = await send(backend, peer)
        assert reply == {"raw": document, "text": text}
        assert await stream(backend, peer) == [{"type": MESSAGE, "data": text}]


@pytest.mark.parametrize(
    ("document", "kind", "told"),
    [
        (texts("oh\x1b no", isError=True), AgentFailedError, r"the tool failed: 'oh\\x1b no'"),
        ({"content": [], "isError": True}, AgentFailedError, "the tool failed"),
        ({"resultType": "input_required", "inputRequests": {}}, AgentFailedError, "asks for further input"),
        ({"resultType": "task", "content": []}, ProtocolError, "not the result of a tool"),
        ({"content": []}, ProtocolError, "has no text; it has 'nothing'"),
        ({"content": [{"type": "image"}]}, ProtocolError, "has no text; it has 'image'"),
        ({"content": [], "structuredContent": {"a": 1}}, ProtocolError, "nothing and structured content"),
        ({"content": [{"type": "text", "text": 7}]}, ProtocolError, "has no text"),
        ({"content": ["fine"]}, ProtocolError, "not the result of a tool"),
        ({"content": "fine"}, ProtocolError, "not the result of a tool"),
        ({}, ProtocolError, "not the result of a tool"),
        ([], ProtocolError, "the result is not an object"),
        (None, ProtocolError, "the result is not an object"),
        (texts("x", isError=True, _meta={"streaming-queue/error": "x"}), AgentFailedError, "the tool failed: 'x'"),
    ],
    ids=range(14),
)
async def test_what_is_no_answer(backend: McpCommBackend, document: Any, kind: Any, told: str):
    async with Peer(tools_call=result(document)) as peer:
        for ask in (send, stream):
            with pytest.raises(kind, match=rf"^{peer.url}: .*{told}") as caught:
                await ask(backend, peer)
            assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "response",
    [
        answer(HTML, kind="text/html"),
        answer(HTML),
        answer(b""),
        answer(b"null"),
        answer(b"[]"),
        answer(b'["x"]'),
        answer(b'{"jsonrpc": "2.0", "result": '),
        answer(b"[" * 100_000),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
        result(texts("fine"), id=77),
        result(texts("fine"), id="1"),
        result(texts("fine"), id=None),
        result(texts("fine"), id=True),
        answer({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}),
        events(),
        events(progress(1)),
        events(progress(1), b"garbage"),
        events({**end("fine"), "id": 77}),
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    ],
    ids=range(20),
)
async def test_what_is_no_response(backend: McpCommBackend, response: Any):
    async with Peer(tools_call=response) as peer:
        for ask in (send, stream):
            with pytest.raises(ProtocolError, match=rf"^{peer.url}: ") as caught:
                await ask(backend, peer)
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("response", [b"HTTP/1.1 200", events(progress(1), end=False)], ids=["nothing", "half"])
async def test_a_tool_of_others_is_not_asked_twice(backend: McpCommBackend, response: Any):
    async with Peer(tools_call=response) as peer:
        asking = asyncio.create_task(send(backend, peer, idempotency_key="k"))
        if response == b"HTTP/1.1 200":
            await soon(lambda: "tools/call" in peer.methods)
            for task in list(peer._tasks):
                task.cancel()
        with pytest.raises(ConnectError, match=rf"^{peer.url}: the connection broke"):
            await asking
        assert peer.methods.count("tools/call") == 1


async def test_an_agent_of_ours_is_asked_again_where_there_is_a_key(backend: McpCommBackend):
    async with Peer({**MODERN, "server/discover": result(OURS)}, tools_call=events(end=False)) as peer:
        for metadata, asked in (({}, 1), ({"idempotency_key": "k"}, 2)):
            with pytest.raises(ConnectError):
                await send(backend, peer, **metadata)
            assert peer.methods.count("tools/call") == asked
            peer.calls.clear()


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("length", ["content-length: 52428800", "x: y"])
async def test_fifty_megabytes_are_not_read(backend: McpCommBackend, kind: str, length: str):
    response = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{length}\r\n\r\n".encode()
    async with Peer(tools_call=response) as peer:
        peer.endless = b" " * 65_536
        with pytest.raises(
            ProtocolError, match=rf"^{peer.url}: .* over the limit of {MAX_EVENT_BYTES} bytes"
        ) as caught:
            await send(backend, peer)
        assert caught.value.retryable is True
        assert peer.sent < 50_000_000


@pytest.mark.parametrize(
    ("response", "kind", "retryable"),
    [
        (error(-32700), ProtocolError, False),
        (error(-32600), ProtocolError, False),
        (error(-32601, "404 Not Found"), ProtocolError, True),
        (error(-32602, "400 Bad Request"), ProtocolError, False),
        (error(-32603), RemoteError, True),
        (error(-32020, "400 Bad Request"), ProtocolError, False),
        (error(-32042), AgentFailedError, True),
        (error(-32800), AgentFailedError, True),
        (error(-1), RemoteError, True),
        (error("x"), RemoteError, True),
        (answer({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "no"}}), ProtocolError, False),
        (answer({"jsonrpc": "2.0", "id": 3, "error": "no"}), ProtocolError, True),
        (answer(HTML, "400 Bad Request"), RemoteError, False),
        (answer(HTML, "401 Unauthorized"), AuthError, False),
        (answer({"error": {"code": 1, "message": "x"}}, "401 Unauthorized"), AuthError, False),
        (answer(HTML, "404 Not Found"), RemoteError, False),
        (answer(HTML, "429 Slow", "retry-after: 7"), RateLimitedError, True),
        (answer(HTML, "503 Service Unavailable"), RemoteError, True),
        (answer(b"", "307 Moved", "location: /mcp/"), RemoteError, False),
    ],
    ids=range(19),
)
async def test_errors_of_a_server(backend: McpCommBackend, response: Any, kind: Any, retryable: bool):
    async with Peer(tools_call=response) as peer:
        with pytest.raises(kind, match=f"^{peer.url}: ") as caught:
            await send(backend, peer)
        assert type(caught.value) is kind
        assert caught.value.retryable is retryable
        if kind is RateLimitedError:
            assert caught.value.retry_after_s == 7
        assert str(caught.value).isprintable()


async def test_progress_of_others_is_a_status(backend: McpCommBackend):
    respond = events(
        b"",
        progress(0.5),
        progress(1, total=4, message="a quarter"),
        {**progress(2), "params": {"progressToken": "another", "progress": 1}},
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": [1]},
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}},
        [progress(3, total=4), end("fine")],
    )
    async with Peer(tools_call=respond) as peer:
        assert await stream(backend, peer) == [
            {"type": STATUS, "data": "0.5", "metadata": {"progress": 0.5}},
            {"type": STATUS, "data": "a quarter", "metadata": {"progress": 1, "total": 4}},
            {"type": STATUS, "data": "3 of 4", "metadata": {"progress": 3, "total": 4}},
            {"type": MESSAGE, "data": "fine"},
        ]


async def test_requests_of_a_server_are_declined(backend: McpCommBackend):
    asked = [
        {"jsonrpc": "2.0", "id": 7, "method": "ping"},
        {"jsonrpc": "2.0", "id": "e", "method": "elicitation/create"},
    ]
    async with Peer(tools_call=events(*asked, end("fine"))) as peer:
        assert (await send(backend, peer))["text"] == "fine"
        pong, declined = [call for call in peer.calls if "method" not in call]
    assert pong == {"jsonrpc": "2.0", "id": 7, "result": {}}
    assert (declined["id"], declined["error"]["code"]) == ("e", -32601)


async def test_a_stream_that_stays_open_after_the_answer_holds_nobody_up(backend: McpCommBackend):
    async with Peer(tools_call=events(end("fine"), end=False)) as peer:
        began = time.monotonic()
        assert (await send(backend, peer))["text"] == "fine"
        assert time.monotonic() - began < 2


# --- cancelling ---


@pytest.mark.parametrize(
    ("discovered", "metadata", "told"),
    [
        (OURS, {"idempotency_key": "k"}, {"_meta": {IDEMPOTENCY_KEY: "k"}}),
        (OURS, {"idempotency_key": "k", "kind": "command"}, None),
        (OURS, {}, None),
        (DISCOVERED, {"idempotency_key": "k"}, None),
    ],
)
async def test_who_is_told_of_a_cancel(backend: McpCommBackend, discovered: Any, metadata: Any, told: Any):
    async with Peer({**MODERN, "server/discover": result(discovered), "tools/call": b""}) as peer:
        asking = asyncio.create_task(send(backend, peer, **metadata))
        await soon(lambda: "tools/call" in peer.methods)
        asking.cancel()
        await asyncio.wait({asking}, timeout=1)
        assert asking.cancelled()
        await backend.close()
        cancels = [call for call in peer.calls if call["method"] == "notifications/cancelled"]
        wanted = [] if told is None else [{"requestId": peer.calls[2]["id"], **told}]
        assert [call["params"] for call in cancels] == wanted


async def test_a_cancel_that_is_not_taken_is_given_up(backend: McpCommBackend):
    table = {**MODERN, "server/discover": result(OURS), "tools/call": b"", "notifications/cancelled": b""}
    async with Peer(table) as peer:
        asking = asyncio.create_task(send(backend, peer, idempotency_key="k"))
        await soon(lambda: "tools/call" in peer.methods)
        asking.cancel()
        began = time.monotonic()
        await asyncio.wait({asking}, timeout=3)
        assert 0.9 < time.monotonic() - began < 1.5


async def test_parts_that_are_no_text_are_refused(backend: McpCommBackend):
    async with Peer() as peer:
        await backend.register_endpoint("w", peer.url)
        for payload in ({}, {"parts": [{"kind": "image", "data": ""}]}):
            with pytest.raises(ConfigError, match="a tool takes a string"):
                await backend.send("c", "w", payload)
        with pytest.raises(ProtocolError, match="cannot be sent as JSON"):
            await backend.send("c", "w", {"text": "\ud800"})
        assert "tools/call" not in peer.methods


@pytest.mark.parametrize(
    "address",
    [
        "",
        "w",
        "ws://h/",
        "ftp://h/",
        "http://",
        "http://u:p@h/mcp",
        "http://h/mcp?x=1",
        "stdio:",
        "stdio: ",
        "stdio:'x",
    ],
)
async def test_addresses_that_are_none(backend: McpCommBackend, address: str):
    with pytest.raises(ConfigError, match="agent 'w'"):
        await backend.register_endpoint("w", address)


def test_options_that_cannot_be():
    for options in ({"version": "2020-01-01"}, {"argument": "q", "arguments": {"q": 1}}):
        with pytest.raises(ConfigError, match=r"mcp\."):
            McpCommBackend(**options)
