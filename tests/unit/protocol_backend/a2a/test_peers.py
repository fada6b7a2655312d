"""Peers that do not keep to A2A, by malice or by accident."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Self

import pytest
from unit.comm.agents import soon

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.errors import (
    AgentFailedError,
    AuthError,
    CommError,
    ConfigError,
    ConnectError,
    ProtocolError,
    QuotaError,
    RateLimitedError,
    RemoteError,
    SendTimeoutError,
)
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.a2a import client
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend
from streaming_queue.protocol_backend.a2a.dialect import CALL_EXTENSION

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

ResponseFor = Callable[[dict[str, Any]], bytes]


class Peer:
    """A server by hand: a card, and for each call what `respond(call)` gives; then it may close or reset."""

    def __init__(
        self, respond: ResponseFor | None = None, *, card: Any = None, raw_card: bytes = b"", **more: Any
    ) -> None:
        self.respond = respond
        self.card = card
        self.raw_card = raw_card
        self.streaming = more.pop("streaming", True)
        self.extension = more.pop("extension", False)
        self.end = more.pop("end", "keep")
        self.versions = more.pop("versions", [("JSONRPC", "1.0")])
        assert not more
        self.calls: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def methods(self) -> list[str]:
        return [call["method"] for call in self.calls]

    def _card(self) -> bytes:
        if self.raw_card:
            return self.raw_card
        card = self.card or {
            "name": "peer",
            "capabilities": {
                "streaming": self.streaming,
                "extensions": [{"uri": CALL_EXTENSION}] if self.extension else [],
            },
            "supportedInterfaces": [
                {"url": f"{self.url}/", "protocolBinding": binding, "protocolVersion": version}
                for binding, version in self.versions
            ],
        }
        return answer(card)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                self.heads.append(head)
                if head.startswith("GET /.well-known"):
                    writer.write(self._card())
                    await writer.drain()
                    continue
                length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
                call = json.loads(await reader.readexactly(int(length.split(":")[1])))
                self.calls.append(call)
                assert self.respond is not None
                response = self.respond(call)
                writer.write(response)
                await writer.drain()
                if self.end == "reset" or not response:
                    await asyncio.sleep(0.02)
                    writer.transport.abort()
                    return
                if b"chunked" in response and not response.endswith(b"0\r\n\r\n"):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


def answer(body: Any, status: str = "200 OK", *headers: str) -> bytes:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def result(call: dict[str, Any], document: Any) -> bytes:
    return answer({"jsonrpc": "2.0", "id": call["id"], "result": document})


def events(call: dict[str, Any], *documents: Any, end: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    for document in documents:
        data = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": document}).encode()
        chunk = b": hello\n\ndata: " + data + b"\r\n\r\n"
        head += b"%x\r\n%s\r\n" % (len(chunk), chunk)
    return head + (b"0\r\n\r\n" if end else b"")


def message(text: str) -> dict[str, Any]:
    return {"message": {"messageId": "r", "role": "ROLE_AGENT", "parts": [{"text": text}]}}


def task(state: str = "WORKING", text: str | None = None, task_id: str = "t", said: str = "") -> dict[str, Any]:
    status: dict[str, Any] = {"state": f"TASK_STATE_{state}"}
    if said:
        status["message"] = message(said)["message"]
    document = {"id": task_id, "contextId": "c", "status": status}
    if text is not None:
        document["artifacts"] = [{"artifactId": "a", "parts": [{"text": text}]}]
    return document


def status(state: str, said: str = "") -> dict[str, Any]:
    return {"statusUpdate": {"taskId": "t", "contextId": "c", "status": task(state, said=said)["status"]}}


def piece(text: str, *, append: bool = False) -> dict[str, Any]:
    artifact = {"artifactId": "a", "parts": [{"text": text}]}
    return {"artifactUpdate": {"taskId": "t", "contextId": "c", "artifact": artifact, "append": append}}


@pytest.fixture
async def backend():
    backend = A2ACommBackend(options={"w": EndpointOptions(credential="s3cret", headers={"X-Team": "blue"})})
    yield backend
    await backend.close()


async def send(backend: A2ACommBackend, url: str, text: str = "q", **metadata: Any) -> Any:
    await backend.register_endpoint("w", url)
    async with asyncio.timeout(5):
        return await backend.send("c", "w", {"text": text, "metadata": metadata})


async def stream(backend: A2ACommBackend, url: str, **metadata: Any) -> list[Any]:
    await backend.register_endpoint("w", url)
    async with asyncio.timeout(5):
        return [event async for event in backend.stream("c", "w", {"text": "q", "metadata": metadata})]


# --- cards ---


@pytest.mark.parametrize(
    ("raw", "cls", "said"),
    [
        (answer(b"<html>hello"), ProtocolError, "is no JSON object: '<html>hello'"),
        (answer(b""), ProtocolError, "is no JSON object"),
        (answer([]), ProtocolError, "is no JSON object"),
        (answer({}), ProtocolError, "offers none at all"),
        (answer({"supportedInterfaces": 5, "url": 5}), ProtocolError, "offers none at all"),
        (answer({"supportedInterfaces": [5, {}]}), ProtocolError, "no usable interface"),
        (
            answer({"supportedInterfaces": [{"url": "http://x", "protocolBinding": "GRPC"}]}),
            ProtocolError,
            "'GRPC' '1.0'",
        ),
        (
            answer({"supportedInterfaces": [{"url": "/", "protocolBinding": "JSONRPC", "protocolVersion": "2.0"}]}),
            ProtocolError,
            "'JSONRPC' '2.0'",
        ),
        (answer({"url": "http://127.0.0.1:1/", "protocolVersion": "0.2.5"}), ProtocolError, "'JSONRPC' '0.2.5'"),
        (answer(b"no", "404 Not Found"), ProtocolError, "there is no agent card"),
        (answer(b"no", "401 Unauthorized"), AuthError, "check the agent's credential"),
        (answer(b"no", "500 Oops"), RemoteError, "answered 500"),
        (answer(b"no", "302 Found", "location: http://127.0.0.1:1/"), RemoteError, "redirects are not followed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\n" + b"x" * 100_000, ProtocolError, "over the limit"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3_000_000, ProtocolError, "over the limit"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ProtocolError, "no HTTP"),
    ],
    ids=range(16),
)
async def test_a_card_that_is_none(backend: Any, raw: bytes, cls: type[CommError], said: str):
    async with Peer(raw_card=raw) as peer:
        with pytest.raises(cls, match=f"^{peer.url}.*{said}"):
            await send(backend, peer.url)
        assert not await backend.health_check("w")
        assert peer.calls == []


async def test_a_card_that_cannot_be_reached(backend: Any):
    async with Peer() as peer:
        pass
    for ask in (send, stream):
        with pytest.raises(ConnectError, match=peer.url):
            await ask(backend, peer.url)
    await backend.register_endpoint("w", "http://127.0.0.1:1")
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:1"):
        await backend.connect("c", "w")


async def test_an_interface_at_another_origin_is_refused_unless_trusted(backend: Any):
    async with Peer(lambda call: result(call, message("hi"))) as other:
        interface = {"url": f"{other.url}/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        async with Peer(card={"name": "x", "supportedInterfaces": [interface]}) as peer:
            with pytest.raises(ProtocolError, match=f"{peer.url}.*{other.url}/rpc.*another origin.*trusted_origins"):
                await send(backend, peer.url)
            assert other.heads == []
            options = {"w": EndpointOptions(credential="s3cret", headers={"X-Team": "blue"})}
            trusting = A2ACommBackend(trusted_origins=[other.url], options=options)
            assert (await send(trusting, peer.url))["text"] == "hi"
            await trusting.close()
            assert "s3cret" in peer.heads[-1]
            assert "s3cret" not in other.heads[-1]
            assert "blue" not in other.heads[-1]
    with pytest.raises(ConfigError, match="trusted_origins"):
        A2ACommBackend(trusted_origins=["nonsense"])


@pytest.mark.parametrize("name", ["localhost", "0.0.0.0", "127.0.0.1"])
async def test_a_card_may_call_this_machine_by_any_name(backend: Any, name: str):
    async with Peer(lambda call: result(call, message("hi"))) as peer:
        port = peer.url.rpartition(":")[2]
        interface = {"url": f"http://{name}:{port}/x", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        peer.card = {"name": "x", "supportedInterfaces": [interface]}
        assert (await send(backend, peer.url))["text"] == "hi"
        assert peer.heads[-1].startswith("POST /x ")
        assert f"host: 127.0.0.1:{port}" in peer.heads[-1].lower()


async def test_what_every_request_carries(backend: Any):
    async with Peer(lambda call: result(call, message("hi")), extension=True) as peer:
        await send(backend, peer.url, attempt=2)
        head = peer.heads[-1].lower()
        assert "a2a-version: 1.0" in head
        assert f"a2a-extensions: {CALL_EXTENSION}" in head
        assert "authorization: bearer s3cret" in head
        assert "x-team: blue" in head
        [call] = peer.calls
        assert call["method"] == "SendMessage"
        assert call["params"]["message"]["metadata"] == {"attempt": 2}
        assert call["params"]["message"]["role"] == "ROLE_USER"


async def test_the_card_is_read_once_for_all_and_again_after_a_failure(backend: Any):
    fail = False

    def respond(call: dict[str, Any]) -> bytes:
        return b"" if fail else result(call, message("hi"))

    def cards() -> int:
        return sum(head.startswith("GET") for head in peer.heads)

    async with Peer(respond) as peer:
        await asyncio.gather(*(send(backend, peer.url) for _ in range(20)))
        assert cards() == 1
        fail = True
        with pytest.raises(ConnectError):
            await send(backend, peer.url)
        fail = False
        await send(backend, peer.url)
        assert cards() == 2


async def test_0_3_is_spoken_where_it_is_all_there_is(backend: Any):
    def respond(call: dict[str, Any]) -> bytes:
        assert call["params"]["message"]["parts"] == [{"kind": "text", "text": "q"}]
        assert (call["params"]["message"]["kind"], call["params"]["message"]["role"]) == ("message", "user")
        text = [{"kind": "text", "text": "hi"}]
        if call["method"] == "message/send":
            return result(call, {"kind": "message", "messageId": "r", "role": "agent", "parts": text})
        return events(
            call,
            {"kind": "task", "id": "t", "contextId": "c", "status": {"state": "submitted"}},
            {"kind": "artifact-update", "taskId": "t", "artifact": {"artifactId": "a", "parts": text}},
            {"kind": "status-update", "taskId": "t", "final": True, "status": {"state": "completed"}},
        )

    async with Peer(respond) as peer:
        card = {"url": peer.url, "protocolVersion": "0.3.0", "capabilities": {"streaming": True}}
        peer.card = {"name": "x", "preferredTransport": "JSONRPC", **card}
        assert (await send(backend, peer.url))["text"] == "hi"
        assert [event["data"] for event in await stream(backend, peer.url)] == ["hi", "hi"]
        assert peer.methods == ["message/send", "message/stream"]


# --- answers ---


@pytest.mark.parametrize(
    ("respond", "cls", "said"),
    [
        (lambda call: answer(b"<html>"), ProtocolError, "no JSON object: '<html>'"),
        (lambda call: answer(b""), ProtocolError, "no JSON object"),
        (lambda call: answer({"jsonrpc": "2.0", "id": call["id"]}), ProtocolError, "neither result nor error"),
        (lambda call: answer({"id": "other", "result": message("hi")}), ProtocolError, "to another request"),
        (lambda call: result(call, 5), ProtocolError, "neither message nor task"),
        (lambda call: result(call, {"task": {"status": {}}}), ProtocolError, "without an id"),
        (lambda call: result(call, {"task": task("FLYING")}), ProtocolError, "does not know: 'flying'"),
        (lambda call: result(call, {"task": task("FAILED", said="ouch")}), AgentFailedError, "'ouch'"),
        (lambda call: result(call, {"task": task("REJECTED")}), AgentFailedError, "rejected"),
        (lambda call: result(call, {"task": task("CANCELED")}), AgentFailedError, "cancelled"),
        (lambda call: result(call, {"task": task("INPUT_REQUIRED")}), AgentFailedError, "further input"),
        (lambda call: result(call, {"task": task("AUTH_REQUIRED")}), AuthError, "authentication"),
        (lambda call: answer({"id": 1, "error": {"code": -32603, "message": "\x1b[31m"}}), RemoteError, "x1b"),
        (lambda call: answer({"id": 1, "error": {"code": -32601}}), ProtocolError, "-32601"),
        (lambda call: answer({"id": 1, "error": {"code": -32006}}), AgentFailedError, "-32006"),
        (lambda call: answer({"id": 1, "error": {"code": 7}}), RemoteError, "7"),
        (lambda call: answer({"id": 1, "error": "no"}), ProtocolError, "no object"),
        (lambda call: answer(b"no", "403 Forbidden"), AuthError, "answered 403"),
        (lambda call: answer(b"no", "429 Slow", "retry-after: 3"), RateLimitedError, "answered 429"),
        (lambda call: answer(b"no", "503 Busy"), RemoteError, "answered 503"),
        (lambda call: b"HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\n", ProtocolError, "over the limit"),
        (lambda call: b"", ConnectError, "broke before the answer"),
        (lambda call: b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{", ConnectError, "broke"),
    ],
    ids=range(23),
)
async def test_an_answer_that_is_none(backend: Any, respond: ResponseFor, cls: type[CommError], said: str):
    for ask in (send, stream):
        async with Peer(respond, end="reset") as peer:
            with pytest.raises(cls, match=f"^{peer.url}: .*{said}") as caught:
                await ask(backend, peer.url)
            assert type(caught.value) is cls
            assert len(peer.calls) == 1, "a message is not sent twice"


@pytest.mark.parametrize(
    "details",
    [
        {"data": {"type": "agent_error", "code": "quota", "retryable": True, "retry_after_s": 2.5}},
        {
            "data": [
                {
                    "@type": "x",
                    "metadata": {"type": "agent_error", "code": "quota", "retryable": "true", "retry_after_s": "2.5"},
                }
            ]
        },
    ],
    ids=["object", "ErrorInfo"],
)
async def test_our_own_error_in_an_errors_details(backend: Any, details: dict[str, Any]):
    def respond(call: dict[str, Any]) -> bytes:
        return answer({"id": call["id"], "error": {"code": -32603, "message": "empty", **details}})

    async with Peer(respond) as peer:
        with pytest.raises(QuotaError, match=f"{peer.url}: empty") as caught:
            await send(backend, peer.url)
        assert (caught.value.retryable, caught.value.retry_after_s) == (True, 2.5)


async def test_rests_errors_are_read_by_their_reason(backend: Any):
    error: dict[str, Any] = {"code": 404, "status": "NOT_FOUND", "message": "gone"}
    error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "UNSUPPORTED_OPERATION"}]

    async with Peer(lambda _: answer({"error": error}, "400 Bad"), versions=[("HTTP+JSON", "1.0")]) as peer:
        with pytest.raises(ProtocolError, match="-32004: 'gone'"):
            await send(backend, peer.url)
        assert peer.heads[-1].startswith("POST /message:send ")
        del error["details"]
        with pytest.raises(RemoteError, match="answered 400") as caught:
            await send(backend, peer.url)
        assert caught.value.retryable is False


async def test_data_parts_are_better_than_nothing(backend: Any):
    def respond(call: dict[str, Any]) -> bytes:
        return result(call, {"message": {"messageId": "r", "role": "ROLE_AGENT", "parts": [{"data": {"a": 1}}]}})

    async with Peer(respond) as peer:
        assert (await send(backend, peer.url))["text"] == '{"a":1}'


@pytest.mark.parametrize(
    "document",
    [
        task("COMPLETED", "hi"),
        task("COMPLETED", said="hi"),
        {**task("COMPLETED"), "history": [{"role": "ROLE_AGENT", "parts": [{"text": "hi"}]}, {"role": "ROLE_USER"}]},
    ],
    ids=["artifact", "status", "history"],
)
async def test_where_a_tasks_answer_may_stand(backend: Any, document: Any):
    async with Peer(lambda call: result(call, {"task": document})) as peer:
        assert (await send(backend, peer.url))["text"] == "hi"


# --- tasks that last ---


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(client, "LONGEST_PAUSE_S", 0.02)


async def test_a_task_under_way_is_asked_for_until_it_ends(backend: Any):
    states = iter([{"task": task("SUBMITTED")}, task(), task(said="at it"), task("COMPLETED", "hi")])
    async with Peer(lambda call: result(call, next(states))) as peer:
        reply = await send(backend, peer.url)
        assert (reply["text"], reply["raw"]["status"]["state"]) == ("hi", "TASK_STATE_COMPLETED")
        assert peer.methods == ["SendMessage", "GetTask", "GetTask", "GetTask"]
        assert peer.calls[-1]["params"] == {"id": "t"}


async def test_a_task_is_asked_for_through_short_breaks_but_not_for_ever(backend: Any):
    states = iter([{"task": task()}, None, None, task(), None, task("COMPLETED", "hi"), {"task": task()}])

    def respond(call: dict[str, Any]) -> bytes:
        state = next(states, None)
        return b"" if state is None else result(call, state)

    async with Peer(respond) as peer:
        assert (await send(backend, peer.url))["text"] == "hi"
        with pytest.raises(ConnectError, match=peer.url):
            await send(backend, peer.url)
        assert peer.methods.count("SendMessage") == 2
        assert peer.methods[-client.RECOVERIES :] == ["GetTask"] * client.RECOVERIES


async def test_a_stream_that_breaks_is_taken_up_again_and_nothing_told_twice(backend: Any):
    def respond(call: dict[str, Any]) -> bytes:
        if call["method"] == "SendStreamingMessage":
            return events(call, {"task": task()}, piece("one "), piece("two ", append=True), end=False)
        assert call["params"] == {"id": "t"}
        return events(
            call,
            {"task": task()},
            piece("one "),
            piece("two ", append=True),
            piece("three", append=True),
            status("COMPLETED"),
        )

    async with Peer(respond) as peer:
        told = await stream(backend, peer.url)
        assert [event["data"] for event in told] == ["one ", "two ", "three", "one two three"]
        assert [event["type"] for event in told] == [DELTA] * 3 + [MESSAGE]
        assert peer.methods == ["SendStreamingMessage", "SubscribeToTask"]


@pytest.mark.parametrize("refusal", ["error", "ends", "breaks"])
async def test_a_stream_that_cannot_be_taken_up_is_asked_for(backend: Any, refusal: str):
    def respond(call: dict[str, Any]) -> bytes:
        if call["method"] == "SendStreamingMessage":
            return events(call, {"task": task()}, status("WORKING", "at it"), piece("one "))
        if call["method"] == "GetTask":
            return result(call, task("COMPLETED", "one two"))
        if refusal == "error":
            return answer({"id": call["id"], "error": {"code": -32004, "message": "terminal"}})
        return events(call) if refusal == "ends" else b""

    async with Peer(respond) as peer:
        told = await stream(backend, peer.url)
        assert [(event["type"], event["data"]) for event in told] == [
            (STATUS, "at it"),
            (DELTA, "one "),
            (DELTA, "two"),
            (MESSAGE, "one two"),
        ]
        assert peer.methods == ["SendStreamingMessage", "SubscribeToTask", "GetTask"]


@pytest.mark.parametrize("end", [True, False])
async def test_a_stream_that_ends_early_without_a_task(backend: Any, end: bool):
    async with Peer(lambda call: events(call, end=end)) as peer:
        with pytest.raises(ProtocolError if end else ConnectError, match=peer.url):
            await stream(backend, peer.url)
        assert peer.methods == ["SendStreamingMessage"]


async def test_a_stream_that_repeats_itself(backend: Any):
    def respond(call: dict[str, Any]) -> bytes:
        done = status("COMPLETED")
        return events(call, {"task": task()}, {"task": task()}, piece("hi"), piece("hi"), done, done, message("more"))

    async with Peer(respond) as peer:
        assert [event["data"] for event in await stream(backend, peer.url)] == ["hi", "hi"]


async def test_a_stream_that_changes_its_task(backend: Any):
    async with Peer(lambda call: events(call, {"task": task()}, {"task": task(task_id="other")})) as peer:
        with pytest.raises(ProtocolError, match=f"{peer.url}: .*another task"):
            await stream(backend, peer.url)


async def test_a_stream_that_never_ends(backend: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("streaming_queue.protocol_backend.a2a.comm.DEADLINE_MARGIN_S", 0.0)

    class Endless(Peer):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            me = asyncio.current_task()
            assert me is not None
            self._tasks.add(me)
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if head.startswith("GET"):
                    writer.write(self._card())
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                call = json.loads(await reader.readexactly(length))
                self.calls.append(call)
                writer.write(events(call, {"task": task()}, end=False))
                while call["method"] == "SendStreamingMessage":
                    writer.write(events(call, status("WORKING", "at it"), end=False).partition(b"\r\n\r\n")[2])
                    await writer.drain()
                    await asyncio.sleep(0.01)
            except (ConnectionError, asyncio.IncompleteReadError):
                return
            finally:
                writer.close()

    async with Endless() as peer:
        started = time.monotonic()
        with pytest.raises(SendTimeoutError, match=peer.url):
            await stream(backend, peer.url, deadline_ms=300)
        assert time.monotonic() - started < 2
        await soon(lambda: "CancelTask" in peer.methods)
        with pytest.raises(ProtocolError, match="over the limit"):
            await _flood(backend)


async def _flood(backend: Any) -> None:
    def respond(call: dict[str, Any]) -> bytes:
        return events(call, {"task": task()}, *[piece("x" * 1_000_000, append=True)] * 17)

    async with Peer(respond) as peer:
        await stream(backend, peer.url)


async def test_a_silent_peer_is_given_up_at_the_deadline(backend: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("streaming_queue.protocol_backend.a2a.comm.DEADLINE_MARGIN_S", 0.0)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"
    for ask in (send, stream):
        async with Peer(lambda _: head) as peer:
            with pytest.raises(SendTimeoutError, match=f"{peer.url}: no answer before the deadline"):
                await ask(backend, peer.url, deadline_ms=100)


# --- cancelling ---


async def test_a_cancel_goes_to_the_message_only_where_our_extension_says_so(backend: Any):
    for extension in (True, False):
        waiting = asyncio.Event()

        def respond(call: dict[str, Any], waiting: asyncio.Event = waiting) -> bytes:
            if call["method"] == "CancelTask":
                return result(call, task("CANCELED"))
            waiting.set()
            return b"HTTP/1.1 200 OK\r\n"

        async with Peer(respond, extension=extension) as peer:
            asking = asyncio.create_task(send(backend, peer.url))
            await waiting.wait()
            asking.cancel()
            await asyncio.wait({asking})
            sent = peer.calls[0]["params"]["message"]["messageId"]
            wanted = [{"id": sent}] if extension else []
            assert [call["params"] for call in peer.calls if call["method"] == "CancelTask"] == wanted


async def test_a_broken_connection_is_rejoined_by_key_where_our_extension_promises_that(backend: Any):
    for extension, key, times in ((True, "k", 2), (True, None, 1), (False, "k", 1)):
        async with Peer(lambda _: b"", extension=extension) as peer:
            with pytest.raises(ConnectError):
                await send(backend, peer.url, **({"idempotency_key": key} if key else {}))
            assert peer.methods == ["SendMessage"] * times


@pytest.mark.parametrize("address", ["http://u:p@h:1", "http://h:1/?q=1", "http://"])
async def test_addresses_that_cannot_be_used(backend: Any, address: str):
    with pytest.raises(ConfigError, match="'w'"):
        await backend.register_endpoint("w", address)


async def test_payloads_that_cannot_be_sent(backend: Any):
    async with Peer(lambda call: result(call, message("hi"))) as peer:
        await backend.register_endpoint("w", peer.url)
        for payload in ({}, {"text": 5}, {"text": "q", "metadata": {"when": object()}}):
            with pytest.raises(ConfigError):
                await backend.send("c", "w", payload)
        assert peer.calls == []


# --- what an agent says about itself ---


async def describe(backend: A2ACommBackend, url: str) -> Any:
    await backend.register_endpoint("w", url)
    async with asyncio.timeout(5):
        return await backend.describe("w")


def no_such_task(call: dict[str, Any]) -> bytes:
    return answer({"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32001, "message": "no such task"}})


async def test_a_description_is_the_card_and_what_we_use_of_it(backend: A2ACommBackend):
    versions = [("JSONRPC", "0.3"), ("JSONRPC", "1.0"), ("GRPC", "1.0")]
    async with Peer(no_such_task, versions=versions, extension=True) as peer:
        assert await describe(backend, peer.url) == {
            "name": "peer",
            "version": None,
            "interfaces": ["JSONRPC 0.3", "JSONRPC 1.0", "GRPC 1.0"],
            "used": f"JSONRPC 1.0 at {peer.url}/",
            "streaming": True,
            "call extension": True,
        }
        assert peer.methods == ["GetTask"]


@pytest.mark.parametrize(
    ("response", "cls", "said"),
    [
        (answer({"detail": "who are you?"}, "401 Unauthorized"), AuthError, "who are you"),
        (answer({"error": {"code": 7, "message": "no"}}, "403 Forbidden"), AuthError, "answered 403"),
        (answer({"detail": "Not Found"}, "404 Not Found"), RemoteError, "answered 404"),
        (answer(b"<html>bad gateway", "502 Bad Gateway"), RemoteError, "answered 502"),
        (answer(b"<html>hello"), ProtocolError, "no JSON object"),
        (b"", ConnectError, "broke before the answer"),
    ],
)
async def test_an_interface_that_is_not_behind_its_card_is_found(
    backend: A2ACommBackend, response: bytes, cls: type[CommError], said: str
):
    async with Peer(lambda _: response) as peer:
        with pytest.raises(cls, match=said) as caught:
            await describe(backend, peer.url)
    assert type(caught.value) is cls
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "response",
    [
        answer({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no such method"}}, "400 Bad Request"),
        answer({"error": {"code": 404, "status": "NOT_FOUND", "message": "no such task"}}, "404 Not Found"),
    ],
)
async def test_any_answer_of_the_protocol_will_do(backend: A2ACommBackend, response: bytes):
    async with Peer(lambda _: response) as peer:
        assert (await describe(backend, peer.url))["name"] == "peer"


@pytest.mark.parametrize("raw", [answer(b"<html>hello"), answer({}), answer(b"", "404 Not Found")])
async def test_without_a_usable_card_there_is_no_description(backend: A2ACommBackend, raw: bytes):
    async with Peer(raw_card=raw) as peer:
        with pytest.raises(ProtocolError):
            await describe(backend, peer.url)
