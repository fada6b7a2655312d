from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator

import pytest

from streaming_queue.testing.relay import KEPT_BYTES, Relay, WireCapture

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

BIG = bytes(range(256)) * 4096


@pytest.fixture
async def agent() -> AsyncIterator[asyncio.Server]:
    """Sends back what it gets, and ends when the other does."""
    serving = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server
    server.close()
    await asyncio.wait_for(asyncio.gather(*serving), 5)


@pytest.fixture
async def relay(agent: asyncio.Server) -> AsyncIterator[Relay]:
    async with Relay("127.0.0.1", agent.sockets[0].getsockname()[1]) as relay:
        yield relay


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, count: int) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readexactly(count)

    async def rest(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.read()


@pytest.fixture
async def connect(relay: Relay) -> AsyncIterator[object]:
    writers = []

    async def connect() -> Peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writers.append(writer)
        return Peer(reader, writer)

    yield connect
    for writer in writers:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("address", "relayed"),
    [
        ("http://10.0.0.1:80/a/b?c=d", "http://127.0.0.1:{port}/a/b?c=d"),
        ("nats://user:word@host:4222/agent.w", "nats://user:word@127.0.0.1:{port}/agent.w"),
        ("grpc://[::1]:50051", "grpc://127.0.0.1:{port}"),
    ],
)
async def test_an_address_is_kept_but_for_host_and_port(address: str, relayed: str):
    relay = Relay.to(address)
    assert relay is not None
    async with relay:
        assert relay.address(address) == relayed.format(port=relay.port)


@pytest.mark.parametrize("address", ["inproc://w", "unix:/run/agent", "did:wba:example", "http://host:port", "x://h:0"])
async def test_without_a_host_and_a_port_there_is_no_wire(address: str):
    assert Relay.to(address) is None


async def test_it_passes_everything_both_ways_and_keeps_the_end_of_it(relay: Relay, connect):
    peer = await connect()
    asking = asyncio.create_task(peer.say(BIG))
    assert await peer.hear(len(BIG)) == BIG
    await asking
    peer.writer.write_eof()
    assert await peer.rest() == b""
    assert relay.sent.total == relay.received.total == len(BIG)
    assert bytes(range(256)) in relay.sent


async def test_refused(relay: Relay, connect):
    peer = await connect()
    await peer.say(b"x")
    await peer.hear(1)
    await relay.refuse()
    with pytest.raises(ConnectionResetError):
        await peer.rest()
    with pytest.raises(OSError) as caught:
        await connect()
    assert caught.value.errno == errno.ECONNREFUSED
    await relay.restore()
    peer = await connect()
    await peer.say(b"back")
    assert await peer.hear(4) == b"back"


async def test_reset(relay: Relay, connect):
    open_before = await connect()
    await open_before.say(b"x")
    await open_before.hear(1)
    relay.reset()
    with pytest.raises(ConnectionResetError):
        await open_before.rest()
    peer = await connect()
    await peer.say(b"x")
    with pytest.raises(ConnectionResetError):
        await peer.rest()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_black_hole(relay: Relay, connect, when: str):
    if when == "before":
        relay.black_hole()
    peer = await connect()
    if when == "after":
        await peer.say(b"x")
        await peer.hear(1)
        relay.black_hole()
    await peer.say(b"into the dark")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(peer.reader.read(1), 0.2)
    assert b"into the dark" in relay.sent
    assert b"into the dark" not in relay.received
    await relay.restore()
    with pytest.raises(ConnectionResetError):
        await peer.rest()


async def test_delay(relay: Relay, connect):
    relay.delay(0.2)
    peer = await connect()
    started = time.monotonic()
    await peer.say(b"slow")
    assert await peer.hear(4) == b"slow"
    assert time.monotonic() - started >= 0.2


async def test_cut(relay: Relay, connect):
    relay.cut(after_bytes=1000)
    peer = await connect()
    await peer.say(b"y" * 4000)
    assert await peer.rest() == b"y" * 1000
    peer = await connect()
    await peer.say(b"y")
    assert await peer.rest() == b""


async def test_another_answer(relay: Relay, connect):
    relay.answer(b"220 something else\r\n")
    peer = await connect()
    await peer.say(b"hello")
    assert await peer.rest() == b"220 something else\r\n"


async def test_an_agent_that_is_not_there_is_a_reset():
    async with Relay("127.0.0.1", 1) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


def test_a_capture_keeps_the_last_bytes_and_shows_them_harmless():
    capture = WireCapture()
    assert capture.excerpt() == "nothing"
    capture.add(b"\x1b[31mred\n")
    assert capture.excerpt() == r"9 bytes: b'\x1b[31mred\n'"
    capture.add(b"a" * KEPT_BYTES + b"the end")
    assert capture.total == KEPT_BYTES + 16
    assert b"red" not in capture
    assert capture.excerpt().startswith("the last 400 of 65,552 bytes: b'aaa")
    assert capture.excerpt().endswith("the end'")
