"""Who made a status: the peer, or our library because no peer did."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError
from unit.comm.http2_peers import LOST, NO_GRPC, SPEAKS_ANOTHER, Serve, answers
from unit.protocol_backend.grpc.peers import tcp

from streaming_queue.comm.grpc_wire import open_channel, own_failure
from streaming_queue.errors import ConnectError, ProtocolError

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

TRIES = 30


async def failure(port: int, way: str) -> AioRpcError:
    """The status of one call over a channel of its own."""
    channel = open_channel(f"127.0.0.1:{port}", None)
    try:
        with pytest.raises(AioRpcError) as caught:
            if way == "send":
                await channel.unary_unary("/a.Service/Call")(b"x", timeout=20)
            else:
                [each async for each in channel.unary_stream("/a.Service/Call")(b"x", timeout=20)]
        return caught.value
    finally:
        await channel.close()


async def failures(peer: Serve) -> list[Any]:
    """How `own_failure` reads each of many calls, or the status where it says that the peer made it."""
    async with tcp(peer) as port:
        found = [await failure(port, way) for _ in range(TRIES // 2) for way in ("send", "stream")]
    return [own_failure(error) or error for error in found]


@pytest.mark.parametrize("peer", LOST.values(), ids=LOST)
async def test_a_call_that_is_lost_is_a_connect_error(peer: Serve):
    assert set(await failures(peer)) == {ConnectError}


@pytest.mark.parametrize("peer", SPEAKS_ANOTHER.values(), ids=SPEAKS_ANOTHER)
async def test_a_peer_that_begins_to_speak_something_else(peer: Serve):
    assert set(await failures(peer)) <= {ConnectError, ProtocolError}


@pytest.mark.parametrize("peer", NO_GRPC.values(), ids=NO_GRPC)
async def test_what_is_no_answer_of_grpc_is_a_protocol_error(peer: Serve):
    assert set(await failures(peer)) == {ProtocolError}


@pytest.mark.parametrize("text", [None, "said", "Stream removed"])
@pytest.mark.parametrize(
    "status", [each for each in StatusCode if each is not StatusCode.OK], ids=lambda each: each.name
)
async def test_a_status_of_the_peer_is_the_peers(status: StatusCode, text: str | None):
    number: int = status.value[0]
    async with tcp(answers(number, text)) as port:
        error = await failure(port, "send")
        assert (own_failure(error), error.code(), error.details()) == (None, status, text or "")
