"""Agents of others, well-meaning or not, and how our client takes them."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest
from aiohttp import web
from unit.comm.agents import Echo
from unit.protocol_backend.anp.strangers import TEXT, body, method, result, stranger

from streaming_queue.errors import (
    AuthError,
    BackendClosedError,
    ConfigError,
    ProtocolError,
    RateLimitedError,
    RemoteError,
)
from streaming_queue.messages import MESSAGE
from streaming_queue.protocol_backend.anp import gate
from streaming_queue.protocol_backend.anp.token import Token

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

QUERY = method("query", ("q", TEXT, True))
TWO = method("two", ("a", TEXT, True), ("b", TEXT, True))
NUMBER = method("number", ("n", {"type": "integer"}, True))


async def ask(backend: Any, url: str, payload: Any = None) -> Any:
    await backend.register_endpoint("w", url)
    return await backend.send("c", "w", payload or {"text": "why?"})


# --- how it is asked ---


@pytest.mark.parametrize(
    ("methods", "wanted", "asked"),
    [
        ([QUERY], None, ("query", {"q": "why?"})),
        ([QUERY, TWO, NUMBER], None, ("query", {"q": "why?"})),
        ([QUERY, method("ask", ("text", TEXT, True))], None, ("ask", {"text": "why?"})),
        ([QUERY, method("find", ("what", TEXT, True), ("limit", {"type": "integer"}, False))], "find", ("find", {"what": "why?"})),
        ([method("say", ("x", {}, False))], None, ("say", {"x": "why?"})),
    ],
)  # fmt: skip
async def test_the_method_that_takes_one_text_is_called(backend: Any, methods: Any, wanted: Any, asked: Any):
    async with stranger(methods) as agent:
        reply = await ask(backend(method=wanted), agent.url, {"text": "why?", "metadata": {"attempt": 1}})
        assert reply == {"raw": "yes", "text": "yes"}
        [call] = agent.calls
        assert (call["jsonrpc"], call["method"], call["params"]) == ("2.0", *asked)


@pytest.mark.parametrize(
    ("methods", "wanted", "words"),
    [
        ([QUERY, method("find", ("what", TEXT, True))], None, "methods that take one text: find, query"),
        ([TWO], None, "methods that take one text: none"),
        ([QUERY, TWO], "two", "does not take one text; usable: query"),
        ([], "x", "usable: none"),
    ],
)  # fmt: skip
async def test_what_to_call_may_have_to_be_said(backend: Any, methods: Any, wanted: Any, words: str):
    async with stranger(methods) as agent:
        with pytest.raises(ConfigError, match=re.escape(words)):
            await ask(backend(method=wanted), agent.url)


async def test_documents_of_all_shapes(backend: Any):
    def held(url: str) -> Any:
        document = {"openrpc": "1.3.2", "methods": [QUERY]}
        other = {"type": "NaturalLanguageInterface", "protocol": "YAML", "url": f"{url}/x"}
        return {"servers": [{"url": "/rpc"}], "interfaces": [7, other, {"protocol": "openrpc", "content": document}]}

    def spread(url: str) -> Any:
        first = {"protocol": "openrpc", "definition": {"methods": [TWO], "servers": [{"url": f"{url}/no"}]}}
        return {"interfaces": [first, {"protocol": "OpenRPC", "url": "interface.json"}]}

    for description in (held, spread):
        async with stranger([QUERY], description=description) as agent:
            assert (await ask(backend(), f"{agent.url}/ad.json"))["text"] == "yes"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("plain", "plain"), ({"answer": "a", "more": 1}, "a"), ({"text": "t", "answer": "a"}, "t"), ({"response": ""}, ""),
    ],
)  # fmt: skip
async def test_answers_that_hold_a_text(backend: Any, answer: Any, text: str):
    async with stranger([QUERY], result(answer)) as agent:
        assert await ask(backend(), agent.url) == {"raw": answer, "text": text}


async def test_an_agent_that_cannot_stream_is_asked_for_the_whole(backend: Any):
    async with stranger([QUERY], result({"text": "yes", "metadata": {"llm_ms": 2}})) as agent:
        made = backend()
        await made.register_endpoint("w", agent.url)
        events = [event async for event in made.stream("c", "w", {"text": "why?"})]
        assert events == [{"type": MESSAGE, "data": "yes", "metadata": {"llm_ms": 2}}]
        assert "text/event-stream" not in agent.headers[0]["Accept"]


# --- what does not fit ---


def error(code: Any, message: Any = "no", **more: Any) -> Any:
    return body({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message, **more}})


@pytest.mark.parametrize(
    ("answer", "cls", "retryable"),
    [
        (result(7), ProtocolError, True), (result({"rows": []}), ProtocolError, True), (result(None), ProtocolError, True),
        (result({"error": "an error text", "text": "is no answer"}), RemoteError, True),
        (body(b"<html>"), ProtocolError, True), (body(b""), ProtocolError, True), (body([]), ProtocolError, True),
        (body({"jsonrpc": "2.0", "id": 99, "result": "x"}), ProtocolError, True),
        (body({"jsonrpc": "2.0", "id": 1, "result": "x", "error": {}}), ProtocolError, True),
        (error(-32601), RemoteError, False), (error(-32603, "\x1b[31m"), RemoteError, True), (error("x", 7), RemoteError, True),
        (body({"jsonrpc": "2.0", "id": 1, "error": "x"}), ProtocolError, True),
        (error(-32000, data={"code": "rate_limited", "message": "slow", "retry_after_s": 2}), RateLimitedError, True),
        (body(b"busy", status=503, content_type="text/plain"), RemoteError, True),
        (body(b"", status=302, headers={"Location": "http://127.0.0.1:9/"}), RemoteError, False),
        (body(b"", status=429, headers={"Retry-After": "3"}), RateLimitedError, True),
    ],
)  # fmt: skip
async def test_answers_that_are_none(backend: Any, answer: Any, cls: Any, retryable: bool):
    async with stranger([QUERY], answer) as agent:
        with pytest.raises(cls) as caught:
            await ask(backend(), agent.url)
        assert type(caught.value) is cls
        assert (caught.value.retryable, "\x1b" in str(caught.value)) == (retryable, False)
        assert agent.url in str(caught.value)


ELSEWHERE = "http://127.0.0.1:9/rpc"


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ({"description": lambda url: {"interfaces": [{"protocol": "openrpc", "url": ELSEWHERE}]}}, "not a URL of its own origin"),
        ({"interface": lambda url: {"methods": [QUERY], "servers": [{"url": ELSEWHERE}]}}, "not a URL of its own origin"),
        ({"interface": lambda url: {"methods": [QUERY], "servers": [{"url": f"{url}:1"}]}}, "not a URL of its own origin"),
        ({"interface": lambda url: {"methods": [QUERY], "servers": [{}]}}, "not a URL of its own origin"),
        *(
            (documents, "not a URL of its own origin")
            for program in ("stdio:touch X", "stdio://bin/touch", "file:///etc/passwd", "os:system")
            for documents in (
                {"description": lambda url, at=program: {"interfaces": [{"protocol": "openrpc", "url": at}]}},
                {"interface": lambda url, at=program: {"methods": [QUERY], "servers": [{"url": at}]}},
            )
        ),
        ({"interface": lambda url: {"methods": [QUERY]}}, "names no server"),
        ({"interface": lambda url: []}, "not an OpenRPC document"),
        ({"description": lambda url: {"interfaces": []}}, "offers no OpenRPC interface"),
        ({"description": lambda url: {}}, "not an agent description"),
        ({"description": lambda url: "x"}, "not an agent description"),
    ],
)  # fmt: skip
async def test_documents_that_lead_nowhere_or_elsewhere(backend: Any, documents: Any, words: str):
    async with stranger([QUERY], **documents) as agent:
        with pytest.raises(ProtocolError, match=words):
            await ask(backend(), agent.url)
        assert agent.calls == []


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (b"", "the stream ended without an answer"),
        (b'data: {"jsonrpc":"2.0","method":"event","params":{"type":"agent_text_delta"}}\n\n', "is not an event"),
        (b"data: x\n\n", "not a JSON object"),
        (b'data: {"jsonrpc":"2.0","id":7,"result":"x"}\n\n', "to another call"),
        (b'data: {"jsonrpc":"2.0",\r\ndata: "id":1,"result":"x"}\r\n\r\n', ""),
    ],
)  # fmt: skip
async def test_streams(backend: Any, events: bytes, words: str):
    streams = method(
        "ask", ("text", TEXT, True), ("parts", {}, False), ("metadata", {}, False), **{"x-event-stream": True}
    )
    async with stranger([streams], body(events, content_type="text/event-stream")) as agent:
        made = backend()
        await made.register_endpoint("w", agent.url)
        if not words:
            assert [event["data"] async for event in made.stream("c", "w", {"text": "q"})] == ["x"]
            return
        with pytest.raises(ProtocolError, match=words):
            [event async for event in made.stream("c", "w", {"text": "q"})]


# --- who we are, to them ---


async def test_the_first_call_is_signed_and_the_next_show_the_token(backend: Any):
    def answer(call: Any) -> web.Response:
        response = result("yes")(call)
        if "signature" in agent.headers[-1]:
            response.headers["Authentication-Info"] = 'access_token="t-1", token_type="Bearer", expires_in=3600'
        return response

    async with stranger([QUERY], answer) as agent:
        made = backend()
        for _ in range(3):
            await ask(made, agent.url)
    first, *later = agent.headers
    assert ("signature" in first, "authorization" in first) == (True, False)
    assert [each["authorization"] for each in later] == ["Bearer t-1"] * 2
    assert not any("signature" in each for each in later)


async def test_a_token_that_is_not_taken_any_more_is_replaced_by_a_signature(
    backend: Any, monkeypatch: pytest.MonkeyPatch
):
    host = backend()
    port = int((handle := await host.spawn_local_agent("w", "127.0.0.1", 0, Echo())).base_url.rpartition(":")[2])
    made = backend()
    assert (await ask(made, handle.base_url))["text"] == "why?"
    await host.close()
    again = await backend().spawn_local_agent("w", "127.0.0.1", port, Echo())  # another key for tokens
    await made.health_check("w")
    assert (await ask(made, again.base_url))["text"] == "why?"


async def test_a_warm_connection_signs_once(backend: Any, monkeypatch: pytest.MonkeyPatch):
    signed = []
    verify = gate._check_signature
    monkeypatch.setattr(gate, "_check_signature", lambda *each: (signed.append(1), verify(*each)))
    handle = await backend().spawn_local_agent("w", "127.0.0.1", 0, Echo())
    made = backend()
    await made.register_endpoint("w", handle.base_url)
    await made.connect("c", "w")
    await asyncio.gather(*(made.send("c", "w", {"text": "q"}) for _ in range(20)))
    assert len(signed) == 1


async def test_a_refusal_says_who_we_are_and_what_to_do(backend: Any):
    async with stranger([QUERY], body(b"no", status=401, content_type="text/plain")) as agent:
        made = backend()
        with pytest.raises(AuthError, match=r"we call as did:wba:localhost:ephemeral:e1_.*anp\.trusted there"):
            await ask(made, agent.url)
        assert len(agent.calls) == 1


async def test_documents_behind_a_gate_are_asked_for_with_a_signature(backend: Any):
    async with stranger([QUERY], guarded=True) as agent:
        made = backend()
        assert (await ask(made, agent.url))["text"] == "yes"
        assert await made.health_check("w")


async def test_an_identity_that_is_made_is_told(backend: Any, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    made = backend()
    did = (await made.identity()).did
    assert f"no anp.identity is set: calling as {did}, created for this process" in caplog.text
    assert did == (await made.identity()).did
    await made.close()
    with pytest.raises(BackendClosedError):
        await made.identity()


def test_tokens():
    now = 0.0
    token = Token(lambda: now)
    assert not token
    token.keep({"Authentication-Info": 'access_token="a", token_type="Bearer", expires_in=60'})
    token.keep({})
    assert token.value == "a"
    now = 51.0
    assert token.value is None
    token.keep({"Authorization": "Bearer b"})
    assert token.value == "b"
    token.refused("a")
    assert token.value == "b"
    token.refused("b")
    assert token.value is None
    token.keep({"Authentication-Info": 'access_token="x\x01y"'})
    assert token.value is None
