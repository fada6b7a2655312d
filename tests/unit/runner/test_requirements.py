from __future__ import annotations

from typing import Any

import pytest

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.config import Config
from streaming_queue.errors import ConfigError
from streaming_queue.runner.requirements import check_requirements


class Plain(BaseCommBackend):
    """One that claims nothing."""

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any: ...

    async def health_check(self, agent_id: str) -> bool: ...


PLAIN = f"{__name__}:Plain"


def config(*protocols: str, **auto) -> Config:
    return Config.of({"protocol": "auto", "workers": [{"protocol": name} for name in protocols], "auto": auto})


def test_protocols_that_have_all_that_is_required_are_taken() -> None:
    check_requirements(config("http", "ws"))
    check_requirements(config("http", "ws", streaming=True, cancel=True, max_overhead_ms=5))


def test_each_protocol_that_lacks_something_is_named_with_what_it_lacks() -> None:
    with pytest.raises(
        ConfigError, match="http lacks identity and e2e_encryption; ws lacks identity and e2e_encryption"
    ):
        check_requirements(config("ws", "http", "ws", identity=True, e2e_encryption=True, streaming=True))
    with pytest.raises(ConfigError, match=rf"{PLAIN} lacks metadata \(max_overhead_ms needs metadata") as caught:
        check_requirements(config("ws", PLAIN, max_overhead_ms=5))
    assert "ws lacks" not in str(caught.value)
    with pytest.raises(ConfigError, match="lacks identity; leave") as caught:
        check_requirements(config("ws", "http", max_overhead_ms=5, identity=True))
    assert "max_overhead_ms" not in str(caught.value)
