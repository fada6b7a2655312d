from __future__ import annotations

import asyncio

import aiohttp
import pytest
from yarl import URL

from streaming_queue.comm.client import http
from streaming_queue.comm.client.http import HttpSession, open_session
from streaming_queue.errors import BackendClosedError, ConnectError, ProtocolError, RemoteError

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

OK = b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture
async def peer():
    """Answers each request with a redirect; `requests` is what came."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                requests.append(head + await reader.readexactly(int(length[0].split(b":")[1]) if length else 0))
                writer.write(OK)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), requests
    server.close()


async def test_a_request_is_sent_as_it_is(peer):
    url, requests = peer
    session = HttpSession("plain")
    body = bytes(3 * 1024 * 1024)
    for sent in (None, b"", b"small", body):
        async with session.request("POST", url / "path", headers={"X-Mine": "1"}, tls=None, body=sent) as response:
            assert response.status == 302
    await session.close()
    assert len(requests) == 4
    assert [request.partition(b"\r\n\r\n")[2] for request in requests] == [b"", b"", b"small", body]
    assert all(request.startswith(b"POST /path HTTP/1.1\r\n") for request in requests)
    assert all(b"\r\nX-Mine: 1\r\n" in request for request in requests)
    assert b"user-agent" not in requests[0].lower()


async def test_closed_it_opens_nothing_and_until_then_ends_what_was_begun(peer):
    url, requests = peer
    session = HttpSession("plain")
    session.check_open()
    session.closed = True
    for _ in range(2):
        with pytest.raises(BackendClosedError, match="plain"):
            session.check_open()
        with pytest.raises(BackendClosedError):
            session.request("GET", url, headers={}, tls=None)
    session.closed = False
    async with session.request("GET", url, headers={}, tls=None):
        session.closed = True
    async with session.request("GET", url, headers={}, tls=None) as last:
        assert last.status == 302
    await session.close()
    await session.close()
    with pytest.raises(BackendClosedError):
        session.request("GET", url, headers={}, tls=None)
    assert len(requests) == 2


async def test_one_session_for_all_requests(peer, monkeypatch):
    url, _ = peer
    made = []
    monkeypatch.setattr(http, "open_session", lambda: made.append(open_session()) or made[-1])
    session = HttpSession("plain")
    async with session.request("GET", url, headers={}, tls=None):
        pass
    async with session.request("GET", url, headers={}, tls=None):
        assert len(made) == 1
    await session.close()
    assert session.closed
    assert made[0].closed


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (aiohttp.ClientPayloadError("half"), ConnectError),
        (aiohttp.ClientError("no http"), ProtocolError),
        (ConnectionResetError("reset"), ConnectError),
    ],
)
def test_what_the_library_raises_is_ours_and_after_the_end_it_is_the_end(error: Exception, kind: type[Exception]):
    session = HttpSession("plain")
    block = session.translated("http://peer")
    with pytest.raises(kind, match=r"^http://peer: ") as raised, block:
        raise error
    assert raised.value.__cause__ is error
    session.closed = True
    with pytest.raises(BackendClosedError, match=r"^http://peer: .*plain"), block:
        raise error


@pytest.mark.parametrize("error", [RemoteError("ours"), ValueError("a bug"), asyncio.CancelledError()])
def test_what_is_not_the_librarys_passes(error: BaseException):
    with pytest.raises(type(error)) as raised, HttpSession("plain").translated("http://peer"):
        raise error
    assert raised.value is error


def test_nothing_raised_is_nothing():
    with HttpSession("plain").translated("http://peer"):
        pass
