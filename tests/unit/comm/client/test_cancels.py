from __future__ import annotations

import asyncio
from typing import Any

import pytest
from unit.core.virtual_loop import virtually

from streaming_queue.comm.client.cancels import Cancels, cancel_key
from streaming_queue.errors import RemoteError


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ({"idempotency_key": "k"}, "k"),
        ({"idempotency_key": "k", "kind": "question"}, "k"),
        ({"idempotency_key": "k", "kind": "command"}, None),
        ({"idempotency_key": ""}, None),
        ({"idempotency_key": 7}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_key_of_a_message(metadata: dict[str, Any] | None, key: str | None) -> None:
    assert cancel_key({"text": "?", "metadata": metadata}) == key
    if not metadata:
        assert cancel_key({"text": "?"}) is None


@virtually
async def test_a_cancel_has_a_second() -> None:
    ended = []

    async def cancel(seconds: float) -> None:
        await asyncio.sleep(seconds)
        ended.append(seconds)

    loop, cancels = asyncio.get_running_loop(), Cancels()
    began = loop.time()
    await cancels.tell("w", lambda: cancel(0.9))
    assert loop.time() - began == pytest.approx(0.9)
    await cancels.tell("w", lambda: cancel(1.1))
    assert loop.time() - began == pytest.approx(1.9)
    assert ended == [0.9]
    assert not cancels._tasks


@pytest.mark.parametrize("error", [RemoteError("no"), ConnectionResetError("reset")])
async def test_one_that_fails_is_the_end_of_it(error: Exception) -> None:
    async def cancel() -> None:
        raise error

    await Cancels().tell("w", cancel)


@virtually
async def test_closing_waits_for_those_under_way_and_begins_none() -> None:
    ended = []

    async def cancel() -> None:
        await asyncio.sleep(0.5)
        ended.append("cancelled")

    loop, cancels = asyncio.get_running_loop(), Cancels()
    began = loop.time()
    telling = asyncio.create_task(cancels.tell("w", cancel))
    await asyncio.sleep(0.1)
    telling.cancel()
    await telling  # the caller's own cancellation is its own to pass on
    await cancels.aclose()
    assert ended == ["cancelled"]
    assert loop.time() - began == pytest.approx(0.5)
    await cancels.tell("w", cancel)
    await cancels.aclose()
    assert ended == ["cancelled"]
    assert loop.time() - began == pytest.approx(0.5)
