"""Peers that do not keep to the protocol, by malice or by accident."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest
from unit.protocol_backend.agora.scripted import NO_LISTING, Scripted, answer, send, success

from streaming_queue.errors import AuthError, CommError, ConnectError, ProtocolError, RateLimitedError, RemoteError
from streaming_queue.protocol_backend.agora.document import HASH

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

HTML = b"<html><body>It works!</body></html>"
LARGE = b'{"status": "success", "body": "' + b"x" * 50_000_000 + b'"}'
LISTINGS = {"known": answer({HASH: []}), "unknown": NO_LISTING}


async def test_the_legitimate_twin_is_served(backend: Any):
    async with Scripted(success("fine")) as peer:
        assert await send(backend, peer) == {"raw": {"status": "success", "body": "fine"}, "text": "fine"}
        assert await backend.health_check("w")
    head = peer.heads[2].lower()
    assert head.startswith("post / http/1.1")
    assert {"authorization: bearer s3cret", "x-team: blue", "content-type: application/json"} <= {*head.split("\r\n")}


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
@pytest.mark.parametrize(
    "case",
    [
        (answer(HTML), ProtocolError, True, "not an Agora response"),
        (answer(b""), ProtocolError, True, "not an Agora response"),
        (answer([1]), ProtocolError, True, "not an Agora response"),
        (answer(HTML, "404 Not Found"), RemoteError, False, "answered 404"),
        (answer(HTML, "500 Oops"), RemoteError, True, "answered 500"),
        (answer(HTML, "401 Unauthorized"), AuthError, False, "check the agent's credential"),
        (answer(HTML, "429 Slow", "retry-after: 3"), RateLimitedError, True, "answered 429"),
        (answer(HTML, "302 Found", "location: http://127.0.0.1:1/"), RemoteError, False, "redirects are not followed"),
        (answer({"status": "success"}), ProtocolError, True, "not an Agora response"),
        (answer({"status": "ok", "body": "x"}), ProtocolError, True, "not an Agora response"),
        (answer({"status": 5, "body": "x"}), ProtocolError, True, "not an Agora response"),
        (answer({"body": "x"}), ProtocolError, True, "not an Agora response"),
        (answer({"status": "failure", "error": "no model"}), RemoteError, True, "answered failure: 'no model'"),
        (answer({"status": "failure", "body": "no model"}), RemoteError, True, "answered failure: 'no model'"),
        (answer({"status": "failure", "error": {"x": "\x1b[2J"}}), RemoteError, True, "answered failure"),
        (
            answer({"status": "error", "message": "Traceback\x1b"}),
            RemoteError,
            True,
            r"answered error: 'Traceback\\x1b'",
        ),
        (answer(LARGE), ProtocolError, True, "over the limit"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ProtocolError, True, "not HTTP"),
        (b"", ConnectError, True, "the connection broke"),
    ],
    ids=range(19),
)
async def test_what_is_no_answer_is_the_right_error(backend: Any, listing: bytes, case: Any):
    response, error, retryable, told = case
    async with Scripted(response, listing=listing) as peer:
        with pytest.raises(error, match=f"^{re.escape(peer.url)}: .*{told}") as caught:
            await send(backend, peer)
    assert type(caught.value) is error
    assert caught.value.retryable is retryable
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("body", [5, None, ["x"], {"answer": "x"}])
async def test_an_answer_in_natural_language_is_a_text(backend: Any, body: Any):
    async with Scripted(success(body)) as peer:
        with pytest.raises(ProtocolError, match=peer.url):
            await send(backend, peer)


async def test_a_peer_that_rejects_natural_language(backend: Any):
    async with Scripted(answer({"status": "rejected", "error": "documents only"})) as peer:
        with pytest.raises(ProtocolError, match="rejected natural language: 'documents only'") as caught:
            await send(backend, peer)
    assert type(caught.value) is ProtocolError


@pytest.mark.parametrize(
    ("listing", "error"),
    [
        (answer(HTML, "401 Unauthorized"), AuthError),
        (answer(HTML, "503 Service Unavailable"), RemoteError),
        (answer(b'{"x": "' + b"y" * 2_000_000 + b'"}'), ProtocolError),
        (b"garbage\r\n\r\n", ProtocolError),
        (b"", ConnectError),
    ],
)
async def test_a_peer_that_cannot_be_met_is_sent_no_question(backend: Any, listing: bytes, error: type[CommError]):
    async with Scripted(success("fine"), listing=listing) as peer:
        with pytest.raises(error, match=peer.url):
            await send(backend, peer)
        assert type(await backend.probe("w")) is error
        assert await backend.health_check("w") is (error is AuthError)
        assert peer.requests == []


@pytest.mark.parametrize(
    "listing", [NO_LISTING, answer(HTML), answer([]), answer(HTML, "405 No"), answer(HTML, "501 No")]
)
async def test_a_peer_without_a_list_is_healthy_if_it_takes_posts(backend: Any, listing: bytes):
    async with Scripted(success("fine"), listing=listing) as peer:
        await backend.register_endpoint("w", peer.url)
        assert await backend.health_check("w")
        facts = await backend.describe("w")
        assert facts == {"protocols": [], "speaks": "natural language so far"}
        assert peer.requests == []
        for options in (answer(HTML), answer(b"", "405 No", "Allow: GET, HEAD"), answer(b"", "501 No")):
            peer.options = options
            assert not await backend.health_check("w")
            with pytest.raises(ProtocolError, match=f"{peer.url}: lists no protocol documents"):
                await backend.describe("w")


async def test_the_probe_of_a_silent_peer_is_bounded(backend: Any):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    await backend.register_endpoint("w", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    began = time.monotonic()
    assert not await backend.health_check("w")
    assert time.monotonic() - began < 2
    server.close()
