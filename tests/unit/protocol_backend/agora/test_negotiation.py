"""From natural language to our document, and back: what the wire shows of it."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from unit.protocol_backend.agora.scripted import Scripted, answer, by_document, send, success

from streaming_queue.errors import ConnectError, ProtocolError, RateLimitedError, RemoteError
from streaming_queue.protocol_backend.agora.comm import AgoraCommBackend
from streaming_queue.protocol_backend.agora.document import HASH, HEX_HASH, QUESTION_ANSWER, SOURCE, data_uri

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

REJECTED = answer({"status": "rejected"})


def speaks_both(request: dict[str, Any]) -> bytes:
    return by_document("by document") if request["protocolHash"] else success("in words")


def speaks_natural_language(request: dict[str, Any]) -> bytes:
    return REJECTED if request["protocolHash"] else success("in words")


async def texts(backend: AgoraCommBackend, peer: Scripted, count: int) -> list[str]:
    return [(await send(backend, peer))["text"] for _ in range(count)]


@pytest.mark.parametrize("name", [HASH, HEX_HASH])
@pytest.mark.parametrize("sources", [[SOURCE], ["https://example.org/document.txt"], [], None])
async def test_a_peer_that_lists_the_document_is_asked_by_it_at_once(backend: Any, name: str, sources: Any):
    async with Scripted(speaks_both, listing={"AAAA": [], name: sources}) as peer:
        assert await texts(backend, peer, 3) == ["by document"] * 3
    assert [head.split(" HTTP")[0] for head in peer.heads] == ["GET /.well-known/agora", *["POST /"] * 3]
    assert peer.requests[0] == {"protocolHash": name, "protocolSources": [], "body": '{"text":"q"}'}


async def test_the_drafts_place_for_the_list_is_looked_at_too(backend: Any):
    async with Scripted(speaks_both) as peer:
        assert await texts(backend, peer, 1) == ["in words"]
    assert [head.split(" HTTP")[0] for head in peer.heads[:2]] == ["GET /.well-known/agora", "GET /wellknown"]


async def test_connecting_looks_at_the_list_and_asks_nothing(backend: Any):
    async with Scripted(speaks_both, listing={HASH: [SOURCE]}) as peer:
        await backend.register_endpoint("w", peer.url)
        for _ in range(2):
            await backend.connect("c", "w")
        assert len(peer.heads) == 1
        assert "authorization: bearer s3cret" in peer.heads[0].lower()
        assert await texts(backend, peer, 1) == ["by document"]


async def test_a_stranger_is_asked_in_natural_language_then_offered_the_document(backend: Any, caplog: Any):
    caplog.set_level(logging.INFO)
    async with Scripted(speaks_both) as peer:
        assert await texts(backend, peer, 4) == ["in words", "by document", "by document", "by document"]
    assert peer.requests[0] == {"protocolHash": None, "protocolSources": None, "body": "q"}
    assert peer.requests[1] == {"protocolHash": HASH, "protocolSources": [SOURCE], "body": '{"text":"q"}'}
    assert peer.requests[2] == {"protocolHash": HASH, "protocolSources": [], "body": '{"text":"q"}'}
    assert f"{peer.url}: agreed on our protocol document {HASH}" in caplog.text


@pytest.mark.parametrize(
    "no",
    [
        REJECTED,
        answer({"status": "rejected", "error": "Unsupported protocol"}),
        answer({"status": "failure", "error": "Unsupported protocol"}),
        answer({"status": "error", "message": "it is not suitable for execution"}),
        answer({"status": "maybe", "body": "x"}),
        answer(b"<h1>Bad Request</h1>", "400 Bad Request"),
        answer(b"<h1>Oops</h1>", "500 Internal Server Error"),
        answer(b"<html>"),
        success("I would love to answer."),
        success('{"text": "no answer"}'),
        success({"answer": 5}),
        success('{"answer": "x", "metadata": 5}'),
        success(None),
    ],
    ids=range(13),
)
async def test_a_peer_that_declines_is_asked_in_natural_language_from_then_on(backend: Any, caplog: Any, no: bytes):
    async with Scripted(lambda request: no if request["protocolHash"] else success("in words")) as peer:
        assert await texts(backend, peer, 4) == ["in words"] * 4
        await backend.register_endpoint("w", peer.url)  # again: nothing is forgotten
        assert (await backend.describe("w"))["speaks"] == "natural language"
    assert peer.hashes == [None, HASH, None, None, None]
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{peer.url} is asked in natural language from now on" in warning.getMessage()


async def test_one_question_at_a_time_makes_the_offer(backend: Any):
    async with Scripted(speaks_both) as peer:
        await texts(backend, peer, 1)
        replies = await asyncio.gather(*(send(backend, peer) for _ in range(6)))
    assert sorted(reply["text"] for reply in replies) == ["by document", *["in words"] * 5]
    assert [request["protocolSources"] for request in peer.requests].count([SOURCE]) == 1


async def test_no_command_makes_the_offer_for_it_might_run_twice(backend: Any):
    async with Scripted(speaks_both) as peer:
        for kind in ("question", "command", "command", "question", "command"):
            await send(backend, peer, "status", kind=kind)
    assert peer.hashes == [None, None, None, HASH, HASH]


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (b"", ConnectError),
        (answer(b"busy", "503 Service Unavailable"), RemoteError),
        (answer(b"slow", "429 Too Many Requests"), RateLimitedError),
    ],
)
async def test_an_offer_that_comes_to_no_end_is_made_again(backend: Any, broken: bytes, error: type[Exception]):
    async with Scripted(speaks_both) as peer:
        await texts(backend, peer, 1)
        peer.respond = broken
        with pytest.raises(error, match=peer.url):
            await send(backend, peer)
        assert peer.hashes == [None, HASH]
        peer.respond = speaks_both
        assert "by document" in await texts(backend, peer, 2)


async def test_an_agent_that_fails_by_the_document_has_agreed(backend: Any):
    failure = {"failure": {"code": "rate_limited", "message": "slow", "retryable": True, "retry_after_s": 7}}

    def respond(request: dict[str, Any]) -> bytes:
        return success(json.dumps(failure)) if request["protocolHash"] else success("in words")

    async with Scripted(respond) as peer:
        await texts(backend, peer, 1)
        for _ in range(2):
            with pytest.raises(RateLimitedError, match=f"{peer.url}: slow") as caught:
                await send(backend, peer)
            assert caught.value.retry_after_s == 7
    assert peer.hashes == [None, HASH, HASH]


async def test_a_peer_that_came_back_without_the_document_loses_no_question(backend: Any):
    async with Scripted(speaks_both, listing={HASH: []}) as peer:
        assert await texts(backend, peer, 1) == ["by document"]
        peer.respond = speaks_natural_language
        assert await texts(backend, peer, 2) == ["in words"] * 2
    assert peer.hashes == [HASH, HASH, None, None]


async def test_a_change_is_told_once_however_many_questions_are_under_way(backend: Any, caplog: Any):
    async with Scripted(speaks_both, listing={HASH: []}) as peer:
        await texts(backend, peer, 1)
        peer.respond = speaks_natural_language
        replies = await asyncio.gather(*(send(backend, peer) for _ in range(5)))
    assert [reply["text"] for reply in replies] == ["in words"] * 5
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


async def test_after_a_failure_of_its_own_a_peer_is_met_anew(backend: Any):
    async with Scripted(speaks_both, listing={HASH: []}) as peer:
        assert await texts(backend, peer, 1) == ["by document"]
        peer.respond = answer({"status": "failure", "error": "no model"})
        with pytest.raises(RemoteError, match="answered failure: 'no model'") as caught:
            await send(backend, peer)
        assert caught.value.retryable is True
        peer.respond, peer.listing = speaks_natural_language, answer({})
        assert await texts(backend, peer, 2) == ["in words"] * 2


async def test_a_list_that_calls_another_document_by_our_hash_is_told(backend: Any):
    async with Scripted(speaks_both, listing={HASH: ["data:,another"]}) as peer:
        for _ in range(2):
            with pytest.raises(ProtocolError, match=f"{peer.url}: lists the hash {HASH}".replace("+", r"\+")) as caught:
                await send(backend, peer)
            assert caught.value.retryable is False
        peer.listing = answer({HASH: ["data:"]})
        with pytest.raises(ProtocolError, match=f"{peer.url}: lists a source that is not a document"):
            await send(backend, peer)
        assert peer.requests == []
        peer.listing = answer({HASH: [data_uri(QUESTION_ANSWER)]})
        assert await texts(backend, peer, 1) == ["by document"]


async def test_parts_are_one_text_and_what_is_no_text_is_not_sent(backend: Any):
    async with Scripted(speaks_both) as peer:
        await backend.register_endpoint("w", peer.url)
        parts = [{"kind": "text", "text": "one"}, {"text": "two"}]
        for _ in range(2):
            await backend.send("c", "w", {"parts": parts})
        assert [request["body"] for request in peer.requests] == ["one\ntwo", '{"text":"one\\ntwo"}']
        for payload in ({}, {"parts": [*parts, {"kind": "file", "uri": "x"}]}):
            with pytest.raises(ValueError, match="part"):
                await backend.send("c", "w", payload)
        assert len(peer.requests) == 2


async def test_metadata_stays_here_in_natural_language(backend: Any):
    async with Scripted(speaks_both) as peer:
        await send(backend, peer, question_id="7", idempotency_key="k")
    assert peer.requests == [{"protocolHash": None, "protocolSources": None, "body": "q"}]
