"""Peers that do not keep to A2A, by malice or by accident."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from unit.protocol_backend.a2a.peer import (
    Peer,
    ResponseFor,
    answer,
    events,
    message,
    result,
    send,
    stream,
    task,
)

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
    UnavailableError,
)
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend
from streaming_queue.protocol_backend.a2a.dialect import CALL_EXTENSION

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


# --- cards ---


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (answer(b"<html>hello"), "is not a JSON object: '<html>hello'"),
        (answer(b""), "is not a JSON object"),
        (answer([]), "is not a JSON object"),
        (answer({}), "offers none at all"),
        (answer({"supportedInterfaces": 5, "url": 5}), "offers none at all"),
        (answer({"supportedInterfaces": [5, {}]}), "no usable interface"),
        (answer({"supportedInterfaces": [{"url": "http://x", "protocolBinding": "GRPC"}]}), "'GRPC' '1.0'"),
        (
            answer({"supportedInterfaces": [{"url": "/", "protocolBinding": "JSONRPC", "protocolVersion": "2.0"}]}),
            "'JSONRPC' '2.0'",
        ),
        (answer({"url": "http://127.0.0.1:1/", "protocolVersion": "0.2.5"}), "'JSONRPC' '0.2.5'"),
        (answer(b"no", "404 Not Found"), "no agent card"),
        (answer(b"no", "500 Oops"), "answered 500"),
        (answer(b"no", "302 Found", "location: http://127.0.0.1:1/"), "redirects are not followed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\n" + b"x" * 100_000, "over the limit"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3_000_000, "over the limit"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
    ],
    ids=range(15),
)
async def test_an_agent_whose_card_cannot_be_used_is_out_of_reach(backend: Any, raw: bytes, said: str):
    async with Peer(raw_card=raw) as peer:
        for ask in (send, stream):
            with pytest.raises(ConnectError, match=f"^{peer.url}.*{said}") as caught:
                await ask(backend, peer.url)
            assert type(caught.value) is UnavailableError
            assert caught.value.retryable is True
        assert not await backend.health_check("w")
        assert peer.calls == []


async def test_a_host_that_is_busy_when_asked_for_its_card(backend: Any):
    async with Peer(raw_card=answer(b"no", "503 Busy", "retry-after: 5")) as peer:
        with pytest.raises(RateLimitedError, match=f"^{peer.url}.*answered 503") as caught:
            await send(backend, peer.url)
        assert caught.value.retry_after_s == 5
        assert not await backend.health_check("w")


async def test_a_card_that_is_refused(backend: Any):
    async with Peer(raw_card=answer(b"no", "401 Unauthorized")) as peer:
        with pytest.raises(AuthError, match=f"^{peer.url}.*check the agent's credential"):
            await send(backend, peer.url)
        assert isinstance(await backend.probe("w"), AuthError)
        assert await backend.health_check("w"), "it is there"


async def test_a_card_that_cannot_be_reached(backend: Any):
    async with Peer() as peer:
        pass
    for ask in (send, stream):
        with pytest.raises(ConnectError, match=peer.url):
            await ask(backend, peer.url)
    await backend.register_endpoint("w", "http://127.0.0.1:1")
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:1"):
        await backend.connect("c", "w")


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON", "GRPC"])
@pytest.mark.parametrize(
    "form", ["stdio:touch {}", "stdio://127.0.0.1/bin/touch {}", "file://{}", "unix:{}", "os:system"]
)
async def test_a_card_names_no_program_and_no_file(tmp_path: Any, form: str, binding: str):
    file = tmp_path / "started"
    interface = {"url": form.format(file), "protocolBinding": binding, "protocolVersion": "1.0"}
    backend = A2ACommBackend(binding=binding)
    async with Peer(card={"name": "x", "supportedInterfaces": [interface]}) as peer:
        with pytest.raises(ConnectError, match="no usable interface"):
            await send(backend, peer.url)
        assert peer.calls == []
    await backend.close()
    assert not file.exists()


async def test_an_interface_at_another_origin_is_refused_unless_trusted(backend: Any):
    async with Peer(lambda call: result(call, message("hi"))) as other:
        interface = {"url": f"{other.url}/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        async with Peer(card={"name": "x", "supportedInterfaces": [interface]}) as peer:
            with pytest.raises(ConnectError, match=f"{peer.url}.*{other.url}/rpc.*another origin.*trusted_origins"):
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
        assert "configuration" not in call["params"]
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


@pytest.mark.parametrize("streaming", [True, False])
async def test_0_3_is_spoken_where_it_is_all_there_is(backend: Any, streaming: bool):
    def respond(call: dict[str, Any]) -> bytes:
        assert call["params"]["message"]["parts"] == [{"kind": "text", "text": "q"}]
        assert (call["params"]["message"]["kind"], call["params"]["message"]["role"]) == ("message", "user")
        text = [{"kind": "text", "text": "hi"}]
        if call["method"] == "message/send":
            assert call["params"]["configuration"] == {"blocking": False}
            return result(call, {"kind": "message", "messageId": "r", "role": "agent", "parts": text})
        return events(
            call,
            {"kind": "task", "id": "t", "contextId": "c", "status": {"state": "submitted"}},
            {"kind": "artifact-update", "taskId": "t", "artifact": {"artifactId": "a", "parts": text}},
            {"kind": "status-update", "taskId": "t", "final": True, "status": {"state": "completed"}},
        )

    async with Peer(respond) as peer:
        card = {"url": peer.url, "protocolVersion": "0.3.0", "capabilities": {"streaming": streaming}}
        peer.card = {"name": "x", "preferredTransport": "JSONRPC", **card}
        assert (await send(backend, peer.url))["text"] == "hi"
        assert [event["data"] for event in await stream(backend, peer.url)] == ["hi"] * (2 if streaming else 1)
        assert set(peer.methods) == {"message/stream" if streaming else "message/send"}


# --- answers ---


@pytest.mark.parametrize(
    ("respond", "cls", "said"),
    [
        (lambda call: answer(b"<html>"), ProtocolError, "not a JSON object: '<html>'"),
        (lambda call: answer(b""), ProtocolError, "not a JSON object"),
        (lambda call: answer({"jsonrpc": "2.0", "id": call["id"]}), ProtocolError, "neither result nor error"),
        (lambda call: answer({"id": "other", "result": message("hi")}), ProtocolError, "to another call"),
        (lambda call: result(call, 5), ProtocolError, "neither a message nor a task"),
        (lambda call: result(call, {"task": {"status": {}}}), ProtocolError, "has no id"),
        (lambda call: result(call, {"task": task("FLYING")}), ProtocolError, "does not define: 'flying'"),
        (lambda call: result(call, {"task": task("FAILED", said="ouch")}), AgentFailedError, "'ouch'"),
        (lambda call: result(call, {"task": task("REJECTED")}), AgentFailedError, "rejected"),
        (lambda call: result(call, {"task": task("CANCELED")}), AgentFailedError, "cancelled"),
        (lambda call: result(call, {"task": task("INPUT_REQUIRED")}), AgentFailedError, "further input"),
        (lambda call: result(call, {"task": task("AUTH_REQUIRED")}), AuthError, "authentication"),
        (lambda call: answer({"id": 1, "error": {"code": -32603, "message": "\x1b[31m"}}), RemoteError, "x1b"),
        (lambda call: answer({"id": 1, "error": {"code": -32601}}), ProtocolError, "-32601"),
        (lambda call: answer({"id": 1, "error": {"code": -32006}}), AgentFailedError, "-32006"),
        (lambda call: answer({"id": 1, "error": {"code": -32009, "message": "1.0?"}}), ProtocolError, "-32009"),
        (lambda call: answer({"id": 1, "error": {"code": 7}}), RemoteError, "7"),
        (lambda call: answer({"id": 1, "error": "no"}), ProtocolError, "not an object"),
        (lambda call: answer(b"no", "403 Forbidden"), AuthError, "answered 403"),
        (lambda call: answer(b"no", "429 Slow", "retry-after: 3"), RateLimitedError, "answered 429"),
        (lambda call: answer(b"no", "503 Busy"), RemoteError, "answered 503"),
        (lambda call: b"HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\n", ProtocolError, "over the limit"),
        (lambda call: b"", ConnectError, "broke before the answer"),
        (lambda call: b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{", ConnectError, "broke"),
    ],
    ids=range(24),
)
@pytest.mark.parametrize("streaming", [True, False])
async def test_an_answer_that_is_none(
    backend: Any, respond: ResponseFor, cls: type[CommError], said: str, streaming: bool
):
    for ask in (send, stream):
        async with Peer(respond, end="reset", streaming=streaming) as peer:
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
        assert peer.heads[-1].startswith("POST /message:stream ")
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
        for ask, method in ((send, "SendMessage"), (stream, "SendStreamingMessage")):
            async with Peer(lambda _: b"", extension=extension) as peer:
                with pytest.raises(ConnectError, match=f"^{peer.url}: the connection broke"):
                    await ask(backend, peer.url, **({"idempotency_key": key} if key else {}))
                assert peer.methods == [method if extension else "SendStreamingMessage"] * times
                messages = [call["params"]["message"] for call in peer.calls]
                assert all(message == messages[0] for message in messages)


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
        (answer(b"<html>hello"), ProtocolError, "not a JSON object"),
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
