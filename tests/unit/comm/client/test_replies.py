"""The replies to one request, between the connection that brings them and their reader."""

from __future__ import annotations

import asyncio

import pytest

from streaming_queue.comm.client import replies as module
from streaming_queue.comm.client.replies import UNREAD_BYTES, Replies
from streaming_queue.comm.context import listening
from streaming_queue.errors import ConnectError, ProtocolError

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


async def test_replies_are_read_in_their_order_and_then_awaited():
    replies = Replies[str]("peer")
    replies.put("a", 1)
    replies.put("b", 1)
    assert (await replies.get(), await replies.get()) == ("a", "b")
    reading = asyncio.create_task(replies.get())
    await asyncio.sleep(0)
    replies.put("c", 1)
    assert await reading == "c"


async def test_a_failure_comes_after_the_replies_before_it_and_none_after_it():
    replies = Replies[str]("peer")
    lost = ConnectError("lost")
    replies.put("a", 1)
    replies.fail(lost)
    replies.fail(ConnectError("later"))
    replies.put("b", 1)
    assert await replies.get() == "a"
    for _ in range(2):
        with pytest.raises(ConnectError) as raised:
            await replies.get()
        assert raised.value is lost


async def test_a_failure_wakes_the_reader():
    replies = Replies[str]("peer")
    reading = asyncio.create_task(replies.get())
    await asyncio.sleep(0)
    replies.fail(ConnectError("lost"))
    with pytest.raises(ConnectError):
        await reading


async def test_unread_replies_have_a_limit_and_read_ones_do_not_count(monkeypatch: pytest.MonkeyPatch):
    assert UNREAD_BYTES == 64 * 1024 * 1024
    monkeypatch.setattr(module, "UNREAD_BYTES", 10)
    replies = Replies[str]("peer")
    for _ in range(5):
        replies.put("a", 10)
        assert await replies.get() == "a"
    replies.put("b", 10)
    replies.put("c", 1)
    assert await replies.get() == "b"
    with pytest.raises(ProtocolError, match=r"^peer: ") as raised:
        await replies.get()
    assert raised.value.retryable


async def test_unread_replies_count_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "UNREAD_BYTES", 10)
    replies = Replies[str]("peer")
    for text in ("a", "b"):
        replies.put(text, 5)
    replies.put("c", 1)
    assert (await replies.get(), await replies.get()) == ("a", "b")
    with pytest.raises(ProtocolError, match="10"):
        await replies.get()


async def test_each_reply_is_a_sign_of_life_of_the_message_in_flight_when_the_request_was_made():
    signs: list[None] = []
    with listening(lambda: signs.append(None)):
        replies = Replies[str]("peer")
    replies.put("a", 1)
    replies.put("b", 1)
    assert len(signs) == 2
