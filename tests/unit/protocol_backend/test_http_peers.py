"""Peers that do not keep to the contract, by malice or by accident."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Self

import pytest
from unit.comm.agents import soon

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES
from streaming_queue.comm.base import EndpointOptions
from streaming_queue.errors import (
    AgentFailedError,
    AuthError,
    CommError,
    ConnectError,
    ProtocolError,
    RateLimitedError,
    RemoteError,
    SendTimeoutError,
)
from streaming_queue.messages import DELTA, MESSAGE
from streaming_queue.protocol_backend.http.comm import HttpCommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


class Peer:
    """A TCP server that answers every request with `response`, then may close, reset or stay silent."""

    def __init__(self, response: bytes, end: str = "keep", *, endless: bytes = b"", pause_s: float = 0) -> None:
        self.response = response
        self.end = end
        self.endless = endless
        self.pause_s = pause_s
        self.later: bytes | None = None  # what the second request and further ones get
        self.requests: list[bytes] = []
        self.sent = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
                self.requests.append(head + body)
                writer.write(self.response if self.later is None or len(self.requests) == 1 else self.later)
                await writer.drain()
                while self.endless:
                    writer.write(self.endless)
                    await writer.drain()
                    self.sent += len(self.endless)
                    await asyncio.sleep(self.pause_s)
                if self.end == "reset":
                    await asyncio.sleep(0.02)
                    writer.transport.abort()
                    return
                if self.end == "close":
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


def answer(body: bytes | str, status: str = "200 OK", *headers: str) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*chunks: bytes, end: bool = True, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + (b"0\r\n\r\n" if end else b"")


def lines(*events: Any, end: bool = True) -> bytes:
    encoded = [event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n" for event in events]
    return chunked(*encoded, end=end, kind="application/x-ndjson")


@pytest.fixture
async def backend():
    backend = HttpCommBackend(options={"w": EndpointOptions(credential="s3cret", headers={"X-Team": "blue"})})
    yield backend
    await backend.close()


async def send(backend: HttpCommBackend, port: int, **metadata: Any) -> Any:
    await backend.register_endpoint("w", f"http://127.0.0.1:{port}")
    async with asyncio.timeout(5):
        return await backend.send("c", "w", {"text": "q", "metadata": metadata})


async def stream(backend: HttpCommBackend, port: int) -> list[Any]:
    await backend.register_endpoint("w", f"http://127.0.0.1:{port}")
    async with asyncio.timeout(5):
        return [event async for event in backend.stream("c", "w", {"text": "q"})]


GOOD = answer('{"text": "fine"}')


async def test_the_legitimate_twin_is_served(backend: HttpCommBackend):
    async with Peer(GOOD) as peer:
        for _ in range(3):
            assert (await send(backend, peer.port))["text"] == "fine"
        assert await stream(backend, peer.port) == [{"type": MESSAGE, "data": "fine"}]


async def test_a_request_carries_what_the_options_say(backend: HttpCommBackend):
    async with Peer(GOOD) as peer:
        await send(backend, peer.port, mine=1, question_id="问", attempt=2)
        head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /message HTTP/1.1\r\n")
    fields = head.decode().lower().split("\r\n")[1:]
    assert {"authorization: bearer s3cret", "x-team: blue", "stq-question-id: %e9%97%ae", "stq-attempt: 2"} <= {*fields}
    assert {"accept-encoding: identity", "content-type: application/json", "accept: application/json"} <= {*fields}
    assert json.loads(body) == {"text": "q", "metadata": {"mine": 1}}


async def test_a_path_before_the_endpoints_is_kept(backend: HttpCommBackend):
    async with Peer(GOOD) as peer:
        await backend.register_endpoint("w", f"http://127.0.0.1:{peer.port}/agents/one/")
        await backend.send("c", "w", {"text": "q"})
    assert peer.requests[0].startswith(b"POST /agents/one/message HTTP/1.1\r\n")


# --- no connection, a broken one, none that ends ---


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://no.such.host.invalid:80"])
async def test_nobody_there(backend: HttpCommBackend, address: str):
    await backend.register_endpoint("w", address)
    started = time.monotonic()
    with pytest.raises(ConnectError, match=f"{address}: cannot connect") as caught:
        await backend.send("c", "w", {"text": "q"})
    assert caught.value.retryable is True
    assert not await backend.health_check("w")
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n",
        b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"text": "fi',
        chunked(b'{"text": "fine"}', end=False),
        lines({"type": DELTA, "data": "x"}, end=False),
    ],
    ids=["nothing", "status", "head", "half", "chunk", "line"],
)
async def test_a_connection_that_breaks_before_the_end(backend: HttpCommBackend, response: bytes, end: str):
    async with Peer(response, end) as peer:
        for ask in (send, stream):
            with pytest.raises(ConnectError, match=rf"http://127.0.0.1:{peer.port}: the connection broke") as caught:
                await ask(backend, peer.port)
            assert caught.value.retryable is True


@pytest.mark.parametrize("metadata", [{}, {"idempotency_key": "k"}])
async def test_a_broken_connection_is_made_anew_once_and_only_with_a_key(
    backend: HttpCommBackend, metadata: dict[str, str]
):
    async with Peer(b"HTTP/1.1 200", "reset") as peer:
        with pytest.raises(ConnectError):
            await send(backend, peer.port, **metadata)
        assert len(peer.requests) == 1 + len(metadata)


async def test_a_kept_connection_that_the_peer_just_closed_costs_no_answer(backend: HttpCommBackend):
    async with Peer(GOOD, "close") as peer:
        for number in range(50):
            assert (await send(backend, peer.port, idempotency_key=str(number)))["text"] == "fine"


async def test_a_black_hole_is_left_by_the_callers_own_deadline(backend: HttpCommBackend):
    async with Peer(b"") as peer:
        await backend.register_endpoint("w", f"http://127.0.0.1:{peer.port}")
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await backend.send("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}})
        assert 0.95 < time.monotonic() - started < 1.5
        assert peer.requests[1].startswith(b"POST /cancel ")
        assert peer.requests[1].endswith(b'{"idempotency_key":"k"}')


async def test_who_is_cancelled_twice_does_not_wait(backend: HttpCommBackend):
    async with Peer(b"") as peer:
        await backend.register_endpoint("w", f"http://127.0.0.1:{peer.port}")
        sending = asyncio.create_task(backend.send("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}}))
        await soon(lambda: len(peer.requests) == 1)
        sending.cancel()
        await soon(lambda: len(peer.requests) == 2)
        sending.cancel()
        started = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await backend.close()
        assert time.monotonic() - started < 1.3


@pytest.mark.parametrize("metadata", [{}, {"idempotency_key": "k", "kind": "command"}])
async def test_no_cancel_is_sent_for_a_command_or_without_a_key(backend: HttpCommBackend, metadata: dict[str, str]):
    async with Peer(b"") as peer:
        sending = asyncio.create_task(send(backend, peer.port, **metadata))
        await soon(lambda: len(peer.requests) == 1)
        sending.cancel()
        await asyncio.wait({sending})
        await backend.close()
        assert len(peer.requests) == 1


async def test_a_timeout_of_the_connection_is_a_timeout(backend: HttpCommBackend, monkeypatch: pytest.MonkeyPatch):
    async with Peer(GOOD) as peer:
        await backend.register_endpoint("w", f"http://127.0.0.1:{peer.port}")

        def timed_out(*_: Any, **__: Any) -> Any:
            raise TimeoutError(110, "Connection timed out")

        monkeypatch.setattr(backend._session, "request", timed_out)
        with pytest.raises(SendTimeoutError, match="the connection timed out"):
            await backend.send("c", "w", {"text": "q"})


# --- answers that are none ---


@pytest.mark.parametrize(
    "response",
    [
        answer("<html>It works!</html>", "200 OK", "content-type: text/html"),
        answer("<html>It works!</html>", "200 OK", "content-type: application/json"),
        answer(b""),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        answer(b"\x00\xff\xfe garbage"),
        answer('{"text": "trunca'),
        answer('{"text": NaN}'),
        answer(b'{"text": "\xff"}'),
        answer("[]"),
        answer('"fine"'),
        answer("null"),
        answer("{}"),
        answer('{"answer": "fine"}'),
        answer('{"text": null}'),
        answer('{"text": ["fine"]}'),
        answer('{"text": "fine", "metadata": ["x"]}'),
        answer("[" * 50_000),
        answer(gzip.compress(b'{"text": "fine"}'), "200 OK", "content-encoding: gzip"),
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 20_000 + b"\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02",
    ],
    ids=range(22),
)
async def test_what_is_no_answer(backend: HttpCommBackend, response: bytes):
    async with Peer(response) as peer:
        for ask in (send, stream):
            with pytest.raises(ProtocolError, match=rf"^http://127.0.0.1:{peer.port}: ") as caught:
                await ask(backend, peer.port)
            assert caught.value.retryable is True
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n",
    ],
    ids=["length", "no length", "error", "stream"],
)
async def test_an_answer_over_the_cap_is_not_read_to_its_end(backend: HttpCommBackend, head: bytes):
    async with Peer(head, endless=b" " * 65_536) as peer:
        with pytest.raises(ProtocolError, match=f"over the limit of {MAX_EVENT_BYTES} bytes") as caught:
            await (stream if b"ndjson" in head else send)(backend, peer.port)
        assert caught.value.retryable is True
        await asyncio.sleep(0.05)
        assert peer.sent < 50_000_000


# --- statuses of those who do not speak the contract ---

HTML = "<html>\x1b[31mno</html>"


@pytest.mark.parametrize(
    ("status", "error", "retryable"),
    [
        ("400 Bad Request", RemoteError, False),
        ("401 Unauthorized", AuthError, False),
        ("403 Forbidden", AuthError, False),
        ("404 Not Found", RemoteError, False),
        ("413 Too Large", RemoteError, False),
        ("429 Too Many Requests", RateLimitedError, True),
        ("500 Internal Server Error", RemoteError, True),
        ("502 Bad Gateway", RemoteError, True),
        ("503 Service Unavailable", RemoteError, True),
        ("504 Gateway Timeout", RemoteError, True),
    ],
)
@pytest.mark.parametrize("body", [HTML, "", '{"detail": "no"}', '{"error": "no"}', '{"error": {"code": 7}}'])
async def test_foreign_statuses(
    backend: HttpCommBackend, status: str, error: type[Exception], retryable: bool, body: str
):
    async with Peer(answer(body, status)) as peer:
        for ask in (send, stream):
            with pytest.raises(CommError if error is not RateLimitedError else error) as caught:
                await ask(backend, peer.port)
            assert type(caught.value) is error
            assert (caught.value.retryable, caught.value.retry_after_s) == (retryable, None)
            assert str(caught.value).startswith(f"http://127.0.0.1:{peer.port}: answered {status[:3]}")
            assert str(caught.value).isprintable()


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        (lambda: "7", 7, 7),
        (lambda: "0", 0, 0),
        (lambda: in_seconds(90), 85, 91),
        (lambda: in_seconds(-90), 0, 0),
        (lambda: "Wed, 21 Oct 2015 07:28:00", 0, 0),
    ],
)
@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_retry_after_in_either_form(backend: HttpCommBackend, status: str, value: Any, low: float, high: float):
    async with Peer(answer(HTML, status, f"retry-after: {value()}")) as peer:
        with pytest.raises(RateLimitedError if status.startswith("429") else RemoteError) as caught:
            await send(backend, peer.port)
    assert caught.value.retry_after_s is not None
    assert low <= caught.value.retry_after_s <= high


@pytest.mark.parametrize("value", ["soon", "-5", "1.5", "٣", "Xyz, 99 Abc 2015"])
async def test_a_retry_after_that_makes_no_sense_is_none(backend: HttpCommBackend, value: str):
    async with Peer(answer(HTML, "429 Slow", f"retry-after: {value}")) as peer:
        with pytest.raises(RateLimitedError) as caught:
            await send(backend, peer.port)
    assert caught.value.retry_after_s is None


async def test_our_body_wins_over_the_status(backend: HttpCommBackend):
    event = {"type": "agent_error", "code": "rate_limited", "message": "slow", "retryable": True, "retry_after_s": None}
    for status in ("200 OK", "500 Oops", "401 No"):
        async with Peer(answer(json.dumps({"error": event}), status, "retry-after: 4")) as peer:
            with pytest.raises(RateLimitedError, match="slow") as caught:
                await send(backend, peer.port)
            assert caught.value.retry_after_s == 4


async def test_an_unknown_code_is_a_failure_of_the_remote(backend: HttpCommBackend):
    body = json.dumps({"error": {"type": "agent_error", "code": "moon_phase", "message": "wrong phase"}})
    async with Peer(answer(body, "500 Oops")) as peer:
        with pytest.raises(RemoteError, match="wrong phase"):
            await send(backend, peer.port)


async def test_an_error_in_a_good_status_is_no_answer(backend: HttpCommBackend):
    async with Peer(answer('{"error": "out of order", "text": ""}')) as peer:
        with pytest.raises(RemoteError, match="out of order"):
            await send(backend, peer.port)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_not_followed_and_the_credential_stays(backend: HttpCommBackend, status: str):
    async with Peer(GOOD) as thief:
        location = f"location: http://127.0.0.1:{thief.port}/message"
        async with Peer(answer(HTML, status, location)) as peer:
            for ask in (send, stream):
                with pytest.raises(RemoteError, match="redirects are not followed") as caught:
                    await ask(backend, peer.port)
                assert caught.value.retryable is False
            assert not await backend.health_check("w")
        assert thief.requests == []


async def test_a_credential_is_its_own_agents(backend: HttpCommBackend):
    async with Peer(GOOD) as peer:
        await backend.register_endpoint("v", f"http://127.0.0.1:{peer.port}")
        await backend.send("c", "v", {"text": "q"})
        assert b"s3cret" not in peer.requests[0]


async def test_proxies_of_the_environment_are_not_used(backend: HttpCommBackend, monkeypatch: pytest.MonkeyPatch):
    async with Peer(GOOD) as thief, Peer(GOOD) as peer:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{thief.port}")
        await send(backend, peer.port)
        assert thief.requests == []


async def test_cookies_are_not_kept(backend: HttpCommBackend):
    async with Peer(answer('{"text": "fine"}', "200 OK", "set-cookie: session=1")) as peer:
        for _ in range(2):
            await send(backend, peer.port)
        assert b"cookie" not in peer.requests[1].lower()


# --- streams ---


async def test_a_stream_in_awkward_pieces(backend: HttpCommBackend):
    whole = b'\n{"type":"agent_text_delta","data":"\xe5\xad\x97"}\r\n\n{"type":"agent_text_message","data":"x"}\n'
    pieces = [whole[index : index + 1] for index in range(len(whole))]
    async with Peer(lines(*pieces)) as peer:
        events = await stream(backend, peer.port)
    assert events == [{"type": DELTA, "data": "字"}, {"type": MESSAGE, "data": "x"}]


async def test_what_follows_the_end_is_not_read(backend: HttpCommBackend):
    async with Peer(lines({"type": MESSAGE, "data": "x"}, {"type": MESSAGE, "data": "y"}, end=False)) as peer:
        assert [event["data"] for event in await stream(backend, peer.port)] == ["x"]


async def test_an_error_at_the_end_of_a_stream(backend: HttpCommBackend):
    error = {"type": "agent_error", "code": "agent_failed", "message": "oh", "retryable": False, "retry_after_s": 3}
    async with Peer(lines({"type": DELTA, "data": "x"}, error)) as peer:
        await backend.register_endpoint("w", f"http://127.0.0.1:{peer.port}")
        events = backend.stream("c", "w", {"text": "q"})
        assert await anext(events) == {"type": DELTA, "data": "x"}
        with pytest.raises(AgentFailedError, match="oh") as caught:
            await anext(events)
    assert (caught.value.retryable, caught.value.retry_after_s) == (False, 3)


@pytest.mark.parametrize(
    "events",
    [
        (),
        (b"\n\n",),
        ({"type": DELTA, "data": "x"},),
        ({"type": "agent_song", "data": "x"},),
        ({"type": DELTA, "data": 5},),
        ({"type": MESSAGE},),
        (b"nonsense\n",),
        (b"[1]\n",),
        ({"type": DELTA, "data": "x"}, b'{"type": "agent_text_message", "data": "no line end"}'),
    ],
    ids=range(9),
)
async def test_a_stream_that_ends_without_an_answer(backend: HttpCommBackend, events: tuple[Any, ...]):
    async with Peer(lines(*events)) as peer:
        with pytest.raises(ProtocolError, match=f"http://127.0.0.1:{peer.port}: "):
            await stream(backend, peer.port)


# --- health ---


@pytest.mark.parametrize(
    ("response", "healthy"),
    [
        (answer('{"status": "ok"}'), True),
        (answer('{"status": "ok", "agent_id": "w"}'), True),
        (answer('{"status": "draining"}'), False),
        (answer("{}"), False),
        (answer('"ok"'), False),
        (answer("ok"), False),
        (answer(""), False),
        (answer('{"status": "ok"}', "500 Oops"), False),
        (answer(b"x" * 100_000), False),
        (b"garbage\r\n\r\n", False),
    ],
)
async def test_health(backend: HttpCommBackend, response: bytes, healthy: bool):
    async with Peer(response, "close") as peer:
        await backend.register_endpoint("w", f"http://127.0.0.1:{peer.port}")
        assert await backend.health_check("w") is healthy
        assert peer.requests[0].startswith(b"GET /health HTTP/1.1\r\n")


@pytest.mark.parametrize(("endless", "pause_s"), [(b"", 0), (b" ", 0.02), (b" " * 65_536, 0)])
async def test_a_probe_is_bounded(backend: HttpCommBackend, endless: bytes, pause_s: float):
    head = b"HTTP/1.1 200 OK\r\n\r\n" if endless else b""
    async with Peer(head, endless=endless, pause_s=pause_s) as peer:
        await backend.register_endpoint("w", f"http://127.0.0.1:{peer.port}")
        started = time.monotonic()
        assert not await backend.health_check("w")
        assert time.monotonic() - started < 1.3


# --- what an agent says about itself ---


async def describe(backend: HttpCommBackend, port: int) -> Any:
    await backend.register_endpoint("w", f"http://127.0.0.1:{port}")
    async with asyncio.timeout(5):
        return await backend.describe("w")


HEALTH = json.dumps({"status": "ok", "agent_id": "w", "version": 7})


async def test_a_description_is_the_health_and_the_date(backend: HttpCommBackend):
    async with Peer(answer(HEALTH, "200 OK", "Date: Tue, 24 Nov 2026 01:02:03 GMT")) as peer:
        date = datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)
        assert await describe(backend, peer.port) == {"status": "ok", "agent_id": "w", "version": 7, "date": date}
        probe, check_auth = peer.requests
    assert probe.startswith(b"GET /health HTTP/1.1\r\n")
    assert check_auth.startswith(b"POST /cancel HTTP/1.1\r\n")
    assert all(b"bearer s3cret" in request.lower() for request in (probe, check_auth))


@pytest.mark.parametrize("header", ["X: y", "Date: yesterday", "Age: 30\r\nDate: Tue, 24 Nov 2026 01:02:03 GMT"])
async def test_no_date_or_a_caches_is_none(backend: HttpCommBackend, header: str):
    async with Peer(answer(HEALTH, "200 OK", header)) as peer:
        assert "date" not in await describe(backend, peer.port)


@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed", "501 Not Implemented"])
async def test_an_agent_that_knows_no_cancel_is_described_too(backend: HttpCommBackend, status: str):
    peer = Peer(answer(HEALTH))
    peer.later = answer("no", status)
    async with peer:
        assert (await describe(backend, peer.port))["agent_id"] == "w"


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_a_refusal_behind_an_open_probe_is_found(backend: HttpCommBackend, status: str):
    peer = Peer(answer(HEALTH))
    peer.later = answer("go away", status)
    async with peer:
        with pytest.raises(AuthError, match=r"go away.*check the agent's credential") as caught:
            await describe(backend, peer.port)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("response", "cls"),
    [
        (answer("<html>hello"), ProtocolError),
        (answer("[]"), ProtocolError),
        (answer("x" * 100_000), ProtocolError),
        (answer(HEALTH, "404 Not Found"), RemoteError),
        (answer('{"status": "draining"}', "503 Service Unavailable"), RemoteError),
        (answer(HEALTH, "302 Found", "Location: http://elsewhere/"), RemoteError),
        (answer(HEALTH, "401 Unauthorized"), AuthError),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ProtocolError),
    ],
)
async def test_what_is_no_agent_is_not_described(backend: HttpCommBackend, response: bytes, cls: type[CommError]):
    async with Peer(response) as peer:
        with pytest.raises(cls, match=r"127\.0\.0\.1") as caught:
            await describe(backend, peer.port)
    assert type(caught.value) is cls


async def test_nobody_is_not_described(backend: HttpCommBackend):
    with pytest.raises(ConnectError):
        await describe(backend, 9)
