from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from unit.core.virtual_loop import VirtualLoop, VirtualTime, in_virtual_time


def pytest_asyncio_loop_factories(config: pytest.Config, item: Any) -> Mapping[str, Callable[[], Any]]:
    """A test that uses `virtual_time` runs in a loop whose time jumps."""
    if "virtual_time" in item.fixturenames:
        return {"virtual": lambda: VirtualLoop(VirtualTime())}
    return {"real": asyncio.new_event_loop}


@pytest.fixture
async def virtual_time() -> Iterator[VirtualTime]:
    """The core tells the time by the loop's clock."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    with in_virtual_time(loop.clock):
        yield loop.clock
