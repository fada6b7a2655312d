from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from yarl import URL

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.http import (
    PROBES,
    HttpPeer,
    HttpSession,
    _probed_socket,
    agent_headers,
    agent_url,
    is_broken,
    open_session,
    peer_date,
    read_body,
    translate,
)
from streaming_queue.comm.context import listening
from streaming_queue.errors import (
    ConfigError,
    ConnectError,
    ProtocolError,
    SendTimeoutError,
    UnavailableError,
)

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

HEADS = {
    "nothing": b"",
    "no length": b"HTTP/1.1 200 OK\r\n\r\nhalf",
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
async def test_closing_the_session_ends_the_wait_of_whoever_reads(head: bytes):
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        asked.set()
        await reader.read()
        writer.close()

    async def read() -> None:
        async with session.get(f"http://127.0.0.1:{port}") as response:
            while await response.content.readany():
                pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    session = open_session()
    reading = asyncio.create_task(read())
    await asked.wait()
    await asyncio.sleep(0.05)
    await session.close()
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(reading, 1)
    server.close()


# --- sockets ---


def test_a_silent_connection_is_probed_by_the_kernel():
    made = _probed_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1)))
    with made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        for option, value in PROBES.items():
            assert made.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) == value


def test_a_system_without_an_option_of_a_probe_has_the_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(socket, "TCP_KEEPIDLE")
    with _probed_socket((socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", 1))) as made:
        assert made.family == socket.AF_INET6
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == PROBES["TCP_KEEPCNT"]


async def test_a_session_keeps_nothing_of_its_peers_and_waits_for_ever(monkeypatch: pytest.MonkeyPatch):
    async with open_session() as session:
        assert session.timeout == aiohttp.ClientTimeout(total=None, connect=5.0)
        assert session.connector is not None
        assert session.connector.limit == 0
        assert not session.trust_env
        assert not session.auto_decompress
        assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
        assert session.skip_auto_headers == {"User-Agent"}


# --- what agents are registered with ---


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://h:1", "http://h:1"),
        ("https://h/", "https://h"),
        ("http://h:1/a/b//", "http://h:1/a/b"),
        ("http://[::1]:7/a", "http://[::1]:7/a"),
    ],
)
def test_an_agents_url(address: str, url: str):
    assert agent_url("w", address) == URL(url)


@pytest.mark.parametrize(
    "address",
    [
        "h:1",
        "ftp://h",
        "http://",
        "http://u@h",
        "http://u:p@h:1",
        "http://h?a=1",
        "http://h#a",
        "ws://h:1",
        "http://h:x",
    ],
)
def test_what_is_no_url_of_an_agent(address: str):
    with pytest.raises(ConfigError, match="'w'") as raised:
        agent_url("w", address)
    assert "u:p" not in str(raised.value), "a credential is not told"
    assert "http://host:port or https://host:port" in str(raised.value)


def test_other_protocols_have_other_schemes():
    assert agent_url("w", "ws://h:1", ("ws", "wss")) == URL("ws://h:1")
    with pytest.raises(ConfigError, match="ws://host:port or wss://host:port"):
        agent_url("w", "http://h:1", ("ws", "wss"))


def test_the_headers_of_a_request():
    options = EndpointOptions(headers={"X-Team": "blue", "Accept": "mine"}, credential="s3cret")
    headers = agent_headers("w", options, {"Accept": "theirs", "Content-Type": "json"})
    assert dict(headers) == {
        "Accept-Encoding": "identity",
        "Accept": "mine",
        "Content-Type": "json",
        "X-Team": "blue",
        "Authorization": "Bearer s3cret",
    }
    assert "Authorization" not in agent_headers("w", EndpointOptions(), {})


@pytest.mark.parametrize(("name", "value"), [("X\n", "1"), ("Ä", "1"), ("X", "a\r\nb"), ("X", "\x00")])
def test_a_header_that_cannot_be_sent(name: str, value: str):
    with pytest.raises(ConfigError, match="'w'"):
        agent_headers("w", EndpointOptions(headers={name: value}), {})


# --- what went wrong ---


def key(error: OSError | None = None) -> tuple[Any, OSError]:
    return Mock(ssl=True, host="h", port=1, is_ssl=True), error or ConnectionRefusedError(errno.ECONNREFUSED, "no")


@pytest.mark.parametrize(
    ("error", "kind", "retryable", "broken"),
    [
        (aiohttp.ClientConnectorSSLError(*key()), UnavailableError, False, False),
        (aiohttp.ClientConnectorCertificateError(key()[0], ValueError("expired")), UnavailableError, False, False),
        (aiohttp.ConnectionTimeoutError(), UnavailableError, True, False),
        (aiohttp.SocketTimeoutError(), SendTimeoutError, True, False),
        (TimeoutError(errno.ETIMEDOUT, "late"), SendTimeoutError, True, False),
        (aiohttp.ClientConnectorError(*key()), UnavailableError, True, False),
        (aiohttp.ServerDisconnectedError(), ConnectError, True, True),
        (aiohttp.ClientPayloadError("half"), ConnectError, True, True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), ConnectError, True, True),
        (aiohttp.InvalidURL("x"), ProtocolError, True, False),
        (aiohttp.ClientResponseError(Mock(), ()), ProtocolError, True, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_library_raises(error: Exception, kind: type[Exception], retryable: bool, broken: bool):
    ours = translate(error, "http://peer")
    assert type(ours) is kind
    assert ours.retryable is retryable
    assert str(ours).startswith("http://peer: ")
    assert is_broken(error) is broken
    assert not is_broken(None)


def test_why_there_was_no_connection():
    assert str(translate(aiohttp.ClientConnectorError(*key()), "a")).endswith("connection refused")
    assert str(translate(aiohttp.ClientPayloadError("half"), "a")).endswith("half")
    assert str(translate(TimeoutError(), "a")).endswith("TimeoutError")


def test_the_peers_clock():
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    text = format_datetime(moment, usegmt=True)
    assert peer_date({"Date": text}) == moment
    assert peer_date({"Date": text.replace("GMT", "-0000")}) == moment
    assert peer_date({"Date": text.replace("GMT", "+0200")}) == moment - timedelta(hours=2)
    assert peer_date({"Date": text, "Age": "3"}) is None
    assert peer_date({}) is None
    assert peer_date({"Date": "yesterday"}) is None


def test_every_request_to_an_agent_has_its_headers():
    session = HttpSession("plain")
    peer = HttpPeer("w", "http://peer", EndpointOptions(headers={"X-Team": "red"}), session)
    assert (peer.address, str(peer.url)) == ("http://peer", "http://peer")
    json = {"Accept": "application/json", "Content-Type": "application/json"}
    assert dict(peer.headers) == json | {"Accept-Encoding": "identity", "X-Team": "red"}
    with pytest.raises(ConfigError, match="'w'"):
        HttpPeer("w", "http://peer", EndpointOptions(headers={"X-Team": "red\n"}), session)


# --- bodies ---


@pytest.fixture
async def answering():
    """`answering(head, body)`: what a GET of such an answer brings."""
    told: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(told[-1])
        if rest:
            async with asyncio.timeout(10):
                await heard.wait()
            writer.write(rest)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    session = open_session()
    heard = asyncio.Event()
    rest = b""

    async def get(head: bytes, body: bytes, limit: int, later: bytes = b"") -> bytes:
        """`later` comes when the body before it was heard."""
        nonlocal rest
        rest = later
        heard.clear()
        told.append(head + b"\r\n\r\n" + body)
        async with session.get(f"http://127.0.0.1:{port}") as response:
            try:
                with listening(heard.set) if later else nullcontext():
                    return await read_body(response, "http://peer", limit)
            except ProtocolError:
                assert response.closed
                raise

    yield get
    await session.close()
    server.close()


@pytest.mark.parametrize("told", [False, True])
async def test_a_body_up_to_its_limit(answering, told: bool):
    def head(length: int) -> bytes:
        return b"HTTP/1.1 200 OK" + (b"\r\ncontent-length: %d" % length if told else b"\r\nconnection: close")

    signs: list[str] = []
    with listening(lambda: signs.append("heard")):
        assert await answering(head(20), b"x" * 20, 20) == b"x" * 20
        assert bool(signs) is not told, "the pieces of a body whose length nobody told are signs of life"
        assert await answering(head(0), b"", 20) == b""
    with pytest.raises(ProtocolError, match=r"^http://peer: ") as raised:
        await answering(head(21), b"x" * 21, 20)
    assert raised.value.retryable


async def test_a_body_is_read_to_its_end_or_over_its_limit(answering):
    head = b"HTTP/1.1 200 OK\r\nconnection: close"
    assert await answering(head, b"x" * 19, 20, later=b"x") == b"x" * 20
    with pytest.raises(ProtocolError):
        await answering(head, b"x" * 20, 20, later=b"x")
