"""Streams piece by piece over a socket: the next piece is sent when the one before it was read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from unit.core.virtual_loop import virtually

from streaming_queue.comm.client import lines
from streaming_queue.comm.client.http import open_session
from streaming_queue.comm.client.lines import READ_OUT_S, read_events, read_lines, read_out
from streaming_queue.errors import ConnectError, ProtocolError

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

HEAD = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
Reader = Callable[[aiohttp.ClientResponse, str, Callable[[], None]], AsyncGenerator[Any, None]]


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_EVENT_BYTES", 20)


class Stream:
    """What was read so far, how often something was heard, and whether the reader gave the response up."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.heard = 0
        self.given_up = False


@asynccontextmanager
async def responding(
    pieces: tuple[bytes, ...], stream: Stream
) -> AsyncIterator[tuple[aiohttp.ClientResponse, Callable[[], None]]]:
    taken = asyncio.Queue[bool]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        for piece in pieces:
            writer.write(piece)
            if not await taken.get():
                break
        writer.close()

    def heard() -> None:
        stream.heard += 1
        taken.put_nowait(True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        async with open_session() as session, session.get(f"http://127.0.0.1:{port}") as response:
            try:
                yield response, heard
            finally:
                stream.given_up = response.closed
                taken.put_nowait(False)
    finally:
        server.close()


async def read(kind: Reader, *pieces: bytes, stream: Stream | None = None) -> Stream:
    stream = stream or Stream()
    async with (
        asyncio.timeout(10),
        responding(pieces, stream) as (response, heard),
        aclosing(kind(response, "http://peer", heard)) as items,
    ):
        async for item in items:
            stream.items.append(item)
    return stream


async def test_lines_come_when_they_are_whole_and_everything_is_a_sign_of_life() -> None:
    stream = await read(read_lines, b"one\ntw", b"o", b"\n", b"three\r\n\nfour")
    assert stream.items == [[b"one"], [b"two"], [b"three\r", b""]]
    assert stream.heard == 4, "what is cut off at the end is no line"


@pytest.mark.parametrize(
    "pieces",
    [
        (b"x" * 20, b"\n"),
        (b"x" * 10, b"x" * 10, b"\n"),
        (b"x" * 12 + b"\n", b"y" * 12, b"\n"),  # each line counts by itself
        (b"x" * 12 + b"\n" + b"y" * 8, b"y" * 12, b"\n"),
        (b"x" * 12, b"\n" + b"y" * 8, b"y" * 12, b"\n"),
        (b"\n".join([b"x" * 20] * 9) + b"\n",),
    ],
)
async def test_a_line_of_as_many_bytes_as_are_allowed_passes(pieces: tuple[bytes, ...]) -> None:
    stream = await read(read_lines, *pieces)
    lines = [line for batch in stream.items for line in batch]
    assert lines == b"".join(pieces).split(b"\n")[:-1]


@pytest.mark.parametrize(
    "pieces",
    [(b"x" * 21,), (b"x" * 10, b"x" * 11), (b"\n" + b"x" * 10, b"x" * 11), (b"x" * 15 + b"\n" + b"y" * 9, b"y" * 12)],
)
async def test_a_line_of_more_ends_the_stream(pieces: tuple[bytes, ...]) -> None:
    stream = Stream()
    with pytest.raises(ProtocolError, match=r"^http://peer: ") as raised:
        await read(read_lines, *pieces, b"never", stream=stream)
    assert raised.value.retryable
    assert stream.given_up


async def test_an_event_has_its_data_and_ends_with_an_empty_line() -> None:
    stream = await read(
        read_events,
        b": comment\r\n\r\nevent: message\r\nda",
        b"ta: one\r\n\r\n",
        b"data:  two\ndata:three\nid: 7\ndata\n\n\n",
        b"data:\n\n",
        b"data: cut off\n",
    )
    assert stream.items == [b"one", b" two\nthree", b""]
    assert stream.heard == 5


async def test_each_event_has_the_whole_limit() -> None:
    one, two = b"data: 4567890\n", b"data:6\n"  # 13 and 6 bytes without their ends
    pieces = [(one + two + b"\n")] * 3
    stream = await read(read_events, *pieces)
    assert stream.items == [b"4567890\n6"] * 3
    stream = await read(read_events, b"data: 4567890\ndata:67\n\n")
    assert stream.items == [b"4567890\n67"], "20 bytes"
    stream = Stream()
    with pytest.raises(ProtocolError, match=r"^http://peer: ") as raised:
        await read(read_events, one + two + b"\n", one + b"data:678\n", b"\n", stream=stream)
    assert stream.items == [b"4567890\n6"]
    assert raised.value.retryable
    assert stream.given_up
    with pytest.raises(ProtocolError, match=r"^http://peer: "):
        await read(read_events, b"x" * 21)


# --- the rest of a stream that has given its answer ---


@pytest.mark.parametrize("error", [None, ConnectError("lost"), aiohttp.ClientPayloadError(), TimeoutError()])
async def test_a_rest_is_read_to_its_end_or_failure(error: Exception | None) -> None:
    read: list[int] = []

    async def rest() -> AsyncGenerator[int, None]:
        for number in range(3):
            read.append(number)
            yield number
        if error is not None:
            raise error

    await read_out(rest())
    assert read == [0, 1, 2]


async def test_an_error_that_is_no_broken_connection_passes() -> None:
    async def rest() -> AsyncGenerator[int, None]:
        raise ValueError("a defect")
        yield 0

    with pytest.raises(ValueError, match="a defect"):
        await read_out(rest())


@virtually
async def test_a_rest_that_does_not_end_is_left() -> None:
    async def rest() -> AsyncGenerator[int, None]:
        await asyncio.sleep(60)
        yield 0

    loop = asyncio.get_running_loop()
    began = loop.time()
    await read_out(rest())
    assert loop.time() - began == pytest.approx(READ_OUT_S)
